"""The loss of each kind of head, for each row of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bitfit.backbone.heads import HeadKind
from bitfit.runtime.layout import Layout

UNLABELLED = -100


@dataclass(frozen=True)
class Loss:
    """Sums and counts, so that the parts of a batch that was cut can be added up."""

    sums: Tensor  # (rows,)
    counts: Tensor  # (rows,) examples, or labelled words for tags


def losses(kind: HeadKind, answers: Tensor, labels: Tensor, layout: Layout) -> Loss:
    """The loss of what a RowModel answered."""
    each, counted = _each(kind, answers.float(), labels, layout)
    owner = (layout.tokens if kind == "tags" else layout.sequences).owners
    zero = torch.zeros(layout.rows, device=each.device)
    return Loss(zero.index_add(0, owner, each), zero.index_add(0, owner, counted))


def _each(kind: HeadKind, answers: Tensor, labels: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The loss of each example (or word), and 1 where it counts."""
    if kind == "class":
        return functional.cross_entropy(answers, labels, reduction="none"), _ones(labels)
    if kind == "number":
        return (answers[:, 0] - labels).square(), _ones(labels)
    if kind == "tags":
        each = functional.cross_entropy(answers, labels, reduction="none", ignore_index=UNLABELLED)
        return each, (labels != UNLABELLED).float()
    return _span(answers, labels, layout), _ones(labels)


def _ones(labels: Tensor) -> Tensor:
    """Every example counts."""
    return torch.ones(len(labels), device=labels.device)


def _span(answers: Tensor, labels: Tensor, layout: Layout) -> Tensor:
    """Cross-entropy of the first and of the last piece over the pieces of each window, averaged."""
    parts = answers.split(list(layout.lengths))
    padded = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=float("-inf"))
    first = functional.cross_entropy(padded[..., 0], labels[:, 0], reduction="none")
    last = functional.cross_entropy(padded[..., 1], labels[:, 1], reduction="none")
    return (first + last) / 2
