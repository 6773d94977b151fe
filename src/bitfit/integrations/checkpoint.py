"""A delta and its backbone as an ordinary transformers checkpoint.

The folder loads without this package: `AutoModelForSequenceClassification.from_pretrained(folder)`.
"""

from pathlib import Path

from transformers import PreTrainedModel

from bitfit.backbone.load import Backbone, quiet
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.errors import DeltaError
from bitfit.files import new_folder
from bitfit.methods.method import Method


def merge(delta: Delta, backbone: Backbone, folder: str | Path) -> Path:
    """Writes the trained model and what makes its inputs to a new folder, whole or not at all."""
    with new_folder(Path(folder)) as target, delta.applied(backbone) as model:
        _refuse_own_head(model, delta.task)
        _write(_ordinary(model, delta), backbone, target)
    return Path(folder)


def _refuse_own_head(model: PreTrainedModel, task: Task) -> None:
    if type(model).__module__.startswith("transformers."):
        return
    remedy = "Train with the architecture's own head (--pool first) to merge."
    if task.kind in ("tags", "span"):
        remedy = f"'{model.config.model_type}' has none for the kind '{task.kind}': keep the delta file."
    raise DeltaError(f"{type(model).__name__} is bitfit's own head, which transformers cannot load by itself. {remedy}")


def _ordinary(model: PreTrainedModel, delta: Delta) -> PreTrainedModel:
    """The trained model without new parameters that transformers would not know."""
    method = Method.maybe_of(delta.method)
    ordinary = model if method is None else method.maybe_get_ordinary(model)
    if ordinary is None:
        raise DeltaError(
            f"'{delta.method}' put new parameters into the model, and an ordinary checkpoint of {type(model).__name__} "
            "has no place for them. Keep the delta file, or merge one of a method that changes the model's own "
            "parameters."
        )
    return ordinary


def _write(model: PreTrainedModel, backbone: Backbone, target: Path) -> None:
    with quiet():
        model.save_pretrained(target)
        for reader in (backbone.tokenizer, backbone.processor):
            if reader is not None:
                reader.save_pretrained(target)
