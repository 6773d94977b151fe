"""A task's head: what it puts on a backbone, and which parameters belong to it."""

from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel

HeadKind = Literal["class", "number", "tags", "span"]
Pool = Literal["first", "mean"]


@dataclass(frozen=True)
class Head:
    """The kind of answer, how many numbers it has, and which token (or the mean of all) gives it."""

    kind: HeadKind
    outputs: int  # labels of a class or tags; 1 for a number; 2 for a span (start, end)
    pool: Pool = "first"  # texts only; "first" is the architecture's own summary token


def head_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Parameters that are not the pretrained encoder's: the head that a task model adds, in order."""
    prefix = model.base_model_prefix + "."
    if model.base_model is model:
        return ()
    return tuple(name for name, _ in model.named_parameters() if not name.startswith(prefix))


def cancelled_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Parameters of a head whose gradient is exactly zero: the bias of a span's scores.

    The scores of all places of a window are compared by softmax, so the same number added to each cancels.
    """
    if not type(model).__name__.endswith(("ForQuestionAnswering", "WithSpanHead")):
        return ()
    return tuple(name for name in head_names(model)[-1:] if name.endswith(".bias"))
