"""A backbone with a task's head, over shared weights."""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageClassification,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
)

from bitfit.backbone.device import CPU
from bitfit.backbone.heads import PER_TEXT, Head, HeadKind, head_names, own_task_model
from bitfit.errors import BackboneError

_OWN_CLASSES: dict[HeadKind, tuple[Any, Any]] = {
    **dict.fromkeys(PER_TEXT, (AutoModelForSequenceClassification, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING)),
    "tags": (AutoModelForTokenClassification, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING),
    "span": (AutoModelForQuestionAnswering, MODEL_FOR_QUESTION_ANSWERING_MAPPING),
}
_GENERATORS = threading.RLock()  # torch's are the whole process's: one thread at a time seeds them and puts them back
_PROBLEMS: dict[HeadKind, Any] = {  # transformers' words
    "class": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
    "tags": None,
    "span": None,
}


def is_image_model(config: PretrainedConfig) -> bool:
    """Whether the architecture classifies images and not texts."""
    kind = type(config)
    return kind in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING and kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def build_task_model(encoder: PreTrainedModel, head: Head, seed: int, pad: int | None) -> PreTrainedModel:
    """A task model whose encoder tensors are `encoder`'s own objects, its head drawn from `seed`."""
    config = copy.deepcopy(encoder.config)
    config.num_labels = head.outputs
    config.problem_type = _PROBLEMS[head.kind]
    with torch.device("meta"):
        model = _empty(config, head)
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = pad  # the last real token is found by it in models that read left to right
    _share(model, encoder)
    if not any(parameter.is_meta for parameter in encoder.parameters()):
        device = next(encoder.parameters()).device
        for name, start in head_start(model, seed).items():
            _set(model, name, nn.Parameter(start.to(device)))
        _refuse_leftovers(model)
    model.eval()
    return model


def head_start(model: PreTrainedModel, seed: int) -> dict[str, Tensor]:
    """What the head's parameters are at the start: a function of `seed` and the architecture alone.

    The model keeps its own head; the global random state is not touched.
    """
    before = {name: model.get_parameter(name) for name in head_names(model)}
    with torch.no_grad(), seeded(seed), _never_drawn(model.base_model):
        for name, parameter in before.items():
            # Zeros, since an initialisation that forgets a parameter must not leave what was in memory.
            _set(model, name, nn.Parameter(torch.zeros(parameter.shape)))
        try:
            _draw(model)
            return {name: model.get_parameter(name).detach() for name in before}
        finally:
            for name, parameter in before.items():
                _set(model, name, parameter)


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Draw from `seed` here, on the processor and on this device, and leave the global generators as they were.

    Threads take turns.
    """
    on_gpu = device.type == "cuda"
    with _GENERATORS, torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield


def _empty(config: PretrainedConfig, head: Head) -> PreTrainedModel:
    """The architecture's own task model without weights, or ours where it has none."""
    if head.pool == "mean" and head.per_text:
        return own_task_model(config, head)
    auto, known = _OWN_CLASSES[head.kind]
    if is_image_model(config) and head.per_text:
        auto, known = AutoModelForImageClassification, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    if type(config) in known:
        model: PreTrainedModel = auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
        if model.base_model is not model:  # T5's span model holds its layers itself: no backbone to share
            return model
    if not head.per_text and not is_image_model(config):
        return own_task_model(config, head)
    raise BackboneError(
        f"The architecture '{config.model_type}' has no model for the task kind '{head.kind}'. "
        "For texts, `DataOptions(pool='mean')` puts a linear layer on the mean of its outputs."
    )


def _share(model: PreTrainedModel, encoder: PreTrainedModel) -> None:
    """Put the encoder's own tensors, the same objects, in the task model's tree."""
    parameters = dict(encoder.named_parameters(remove_duplicate=False))
    buffers = dict(encoder.named_buffers(remove_duplicate=False))
    base = model.base_model
    try:
        for path, module in base.named_modules(remove_duplicate=False):
            prefix = f"{path}." if path else ""
            for leaf in [leaf for leaf, value in module._parameters.items() if value is not None]:
                module._parameters[leaf] = parameters[prefix + leaf]
            for leaf in [leaf for leaf, value in module._buffers.items() if value is not None]:
                module._buffers[leaf] = buffers[prefix + leaf]
    except KeyError as error:
        raise BackboneError(
            f"{type(model).__name__} wants {error}, which the backbone, {type(encoder).__name__}, lacks."
        ) from None


def _set(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    model.get_submodule(path)._parameters[leaf] = parameter


def _draw(model: PreTrainedModel) -> None:
    """Run the architecture's own initialisation over the head's modules, inner ones first, the model last."""
    prefix = model.base_model_prefix
    outside = [m for n, m in model.named_modules() if n != prefix and not n.startswith(f"{prefix}.")]
    for module in reversed(outside):
        model._init_weights(module)


@contextmanager
def _never_drawn(encoder: nn.Module) -> Iterator[None]:
    """Mark the encoder as filled: some architectures' rule for the whole model reaches into it."""
    marked = [p for p in encoder.parameters() if not getattr(p, "_is_hf_initialized", False)]
    for parameter in marked:
        parameter._is_hf_initialized = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for parameter in marked:
            del parameter._is_hf_initialized  # type: ignore[attr-defined]


def _refuse_leftovers(model: PreTrainedModel) -> None:
    empty = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if empty:
        raise BackboneError(f"{type(model).__name__} has parts that nothing fills: {', '.join(empty)}.")
