"""A delta and its backbone as an ordinary transformers checkpoint.

The folder loads without this package: `AutoModelForSequenceClassification.from_pretrained(folder)`. A head on the mean
of the tokens is no class of transformers; its folder brings one along, and is a chain of sentence-transformers too.
"""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from bitfit.backbone.heads import OwnTask, head_names
from bitfit.backbone.load import Backbone, quiet
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.errors import DeltaError
from bitfit.files import new_folder
from bitfit.integrations import modeling_mean as modeling
from bitfit.methods.method import Method

MODELING = Path(modeling.__file__).name  # the file whose code a user must allow
_TRANSFORMER, _POOLING, _DENSE = "0_Transformer", "1_Pooling", "2_Dense"
_WEIGHTS = "model.safetensors"


def merge(delta: Delta, backbone: Backbone, folder: str | Path) -> Path:
    """Writes the trained model and what makes its inputs to a new folder, whole or not at all."""
    with new_folder(Path(folder)) as target, delta.applied(backbone) as model, quiet():
        _refuse_own_head(model, delta.task)
        ordinary = _ordinary(model, delta)
        _divide_last_layer(ordinary, delta.temperature or 1.0)
        _note_thresholds(ordinary, delta)
        if isinstance(ordinary, OwnTask):
            _write_mean_pooling(ordinary, target)
            _write_readers(backbone, delta.task, target / _TRANSFORMER)
        else:
            ordinary.save_pretrained(target)
        _write_readers(backbone, delta.task, target)
    return Path(folder)


def _refuse_own_head(model: PreTrainedModel, task: Task) -> None:
    if isinstance(model, OwnTask) and not task.per_text:
        raise DeltaError(
            f"{type(model).__name__} is bitfit's own head, which transformers cannot load by itself. "
            f"'{model.config.model_type}' has none for the kind '{task.kind}': keep the delta file."
        )


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


def _divide_last_layer(model: PreTrainedModel, temperature: float) -> None:
    """So that the shares are those that `predict` gives; every head ends in a linear layer, which the delta holds and
    so puts back."""
    last = next(name for name in reversed(head_names(model)) if name.endswith("weight")).rpartition(".")[0]
    with torch.no_grad():
        for parameter in model.get_submodule(last).parameters():
            parameter.div_(temperature)


def _note_thresholds(model: PreTrainedModel, delta: Delta) -> None:
    """A pipeline of transformers gives every label's share; which of them are answers it leaves to its user."""
    if delta.thresholds is not None:
        model.config.thresholds = dict(zip(delta.task.labels, delta.thresholds, strict=True))


def _write_readers(backbone: Backbone, task: Task, target: Path) -> None:
    if backbone.processor is not None:
        backbone.processor.save_pretrained(target)
    if backbone.tokenizer is not None:
        tokenizer = copy.deepcopy(backbone.tokenizer)
        tokenizer.model_max_length = min(tokenizer.model_max_length, task.max_length)  # cut texts as the task does
        tokenizer.save_pretrained(target)


# ---------------------------------------------------------------------- a head on the mean


def _write_mean_pooling(model: Any, target: Path) -> None:
    """The weights as a chain of sentence-transformers, and beside it what reads the same files as one classifier.

    The classifier has a `model_type` of its own: under the base model's, transformers would read the weights into the
    architecture's own classifier wherever the file is not allowed, and answer nonsense without a word.
    """
    linear = model.classifier
    model.base_model.save_pretrained(target / _TRANSFORMER)
    for folder in (_POOLING, _DENSE):
        (target / folder).mkdir()
    # The names are those that sentence-transformers has, and the classifier after it.
    save_file({f"linear.{name}": value for name, value in linear.state_dict().items()}, target / _DENSE / _WEIGHTS)
    for file, document in (
        ("modules.json", _chain()),
        (f"{_POOLING}/config.json", _pooling(linear.in_features)),
        (f"{_DENSE}/config.json", _dense(linear)),
        (f"{_WEIGHTS}.index.json", _index(target)),
    ):
        (target / file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _classifier_config(model).save_pretrained(target)
    shutil.copyfile(modeling.__file__, target / MODELING)


def _classifier_config(model: Any) -> PretrainedConfig:
    base = model.base_model.config.to_dict()
    base.pop("_name_or_path", None)  # a folder on this computer
    kind = modeling.MeanPoolingForSequenceClassification.__name__
    return modeling.MeanPoolingConfig(
        base_config=base,
        width=model.classifier.in_features,
        dropout=model.dropout.p,
        id2label=model.config.id2label,
        label2id=model.config.label2id,
        problem_type=model.config.problem_type,
        **({"thresholds": model.config.thresholds} if hasattr(model.config, "thresholds") else {}),
        architectures=[kind],
        auto_map={
            "AutoConfig": f"{Path(MODELING).stem}.{modeling.MeanPoolingConfig.__name__}",
            "AutoModelForSequenceClassification": f"{Path(MODELING).stem}.{kind}",
        },
    )


def _chain() -> list[dict[str, Any]]:
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{path.partition('_')[2]}"}
        for i, path in enumerate((_TRANSFORMER, _POOLING, _DENSE))
    ]


def _pooling(width: int) -> dict[str, Any]:
    """In the words that every version of sentence-transformers reads."""
    modes = {"cls_token": False, "mean_tokens": True, "max_tokens": False, "mean_sqrt_len_tokens": False}
    return {"word_embedding_dimension": width, **{f"pooling_mode_{mode}": on for mode, on in modes.items()}}


def _dense(linear: nn.Linear) -> dict[str, Any]:
    identity = "torch.nn.modules.linear.Identity"
    sizes = {"in_features": linear.in_features, "out_features": linear.out_features}
    return {**sizes, "bias": True, "activation_function": identity}


def _index(target: Path) -> dict[str, Any]:
    """Which file has which tensor: transformers reads the chain's own files as parts of one checkpoint."""
    names: dict[str, str] = {}
    size = 0
    for path in sorted(target.glob("*/*.safetensors")):
        size += path.stat().st_size
        with safe_open(path, "pt") as file:
            names |= dict.fromkeys(file.keys(), str(path.relative_to(target).as_posix()))
    return {"metadata": {"total_size": size}, "weight_map": names}
