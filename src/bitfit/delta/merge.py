"""A delta and its backbone as an ordinary transformers checkpoint; knows nothing of how deltas are stored.

The folder loads without this package: `AutoModelForSequenceClassification.from_pretrained(folder)`.
"""

import secrets
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from bitfit.backbone.load import Backbone, quiet
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.errors import DeltaError


def merge(delta: Delta, backbone: Backbone, folder: str | Path) -> Path:
    """Writes the trained model and its tokenizer to a new folder, whole or not at all."""
    target = Path(folder)
    if target.exists():
        raise DeltaError(f"A new folder was expected; '{target}' is already there. Choose another --out.")
    with delta.applied(backbone) as model:
        _refuse_own_head(model)
        _name_labels(model, delta.task)
        return _write(model, backbone, target)


def _refuse_own_head(model: PreTrainedModel) -> None:
    if not type(model).__module__.startswith("transformers."):
        raise DeltaError(
            f"{type(model).__name__} is bitfit's own head, which transformers cannot load by itself. "
            "Train with the architecture's own head (--pool first) to merge."
        )


def _name_labels(model: PreTrainedModel, task: Task) -> None:
    """The config is the task model's own copy, so the backbone's keeps what it said."""
    if task.labels:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: number for number, label in enumerate(task.labels)}


def _write(model: PreTrainedModel, backbone: Backbone, target: Path) -> Path:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir()
        with quiet():
            model.save_pretrained(temporary)
            if backbone.tokenizer is not None:
                backbone.tokenizer.save_pretrained(temporary)
        temporary.rename(target)
    except OSError as error:
        raise DeltaError(f"'{target}' cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
