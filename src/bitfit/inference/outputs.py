"""A model's outputs over a whole split, for one row or many, and their loss."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bitfit.backbone.device import CPU, to_device
from bitfit.backbone.heads import HeadKind
from bitfit.data.examples import Examples
from bitfit.runtime.layout import Batch, Layout
from bitfit.runtime.row_model import RowModel

UNLABELLED = -100
TOKENS_A_PASS = 16384  # enough to keep any device busy; more only takes memory
NUMBERS_A_PASS = 4096 * 384  # that a layer hands on to the next: on a processor, more leave its cache in between


@dataclass(frozen=True)
class Loss:
    """Sums and counts, so that the parts of a batch that was cut can be added up."""

    sums: Tensor  # (rows,)
    counts: Tensor  # (rows,) examples, or labelled words for tags


def losses(
    kind: HeadKind, answers: Tensor, labels: Tensor, layout: Layout, class_weights: Tensor | None = None
) -> Loss:
    """The loss of what a RowModel answered. `class_weights`, (rows, classes), multiply the loss of a class's examples,
    and not their count."""
    each, counted = _each(kind, answers.float(), labels, layout)
    owner = (layout.tokens if kind == "tags" else layout.sequences).owners
    if class_weights is not None:
        each = each * class_weights[owner, labels]
    zero = torch.zeros(layout.rows, device=each.device)
    return Loss(zero.index_add(0, owner, each), zero.index_add(0, owner, counted))


def _each(kind: HeadKind, answers: Tensor, labels: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The loss of each example (or word), and 1 where it counts."""
    if kind == "class":
        return functional.cross_entropy(answers, labels, reduction="none"), _ones(labels)
    if kind == "labels":
        each = functional.binary_cross_entropy_with_logits(answers, labels.float(), reduction="none")
        return each.mean(dim=1), _ones(labels)
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


@dataclass(frozen=True, eq=False)
class Outputs:
    """One row's answers to a split, in the form that `score` takes."""

    values: NDArray[Any]
    loss: float | None  # mean over the split; None where labels are unknown


def pass_tokens(model: RowModel) -> int:
    """Tokens of a pass at most; of an image, which is one token to its batch, all positions count."""
    most = TOKENS_A_PASS if model.device.type != "cpu" else min(TOKENS_A_PASS, NUMBERS_A_PASS // model.width)
    return max(1, most // model.positions_per_token)


def batch_of(
    examples: Examples, which: NDArray[np.int64], counts: tuple[int, ...], device: torch.device = CPU
) -> Batch:
    """These examples laid end to end, on the device of the model; `counts` of them belong to each row."""
    starts, ends = examples.offsets[which], examples.offsets[which + 1]
    ids = np.concatenate([examples.ids[a:b] for a, b in zip(starts, ends, strict=True)])
    types = np.concatenate([examples.types[a:b] for a, b in zip(starts, ends, strict=True)])
    layout = Layout(tuple((ends - starts).tolist()), counts, device=device)
    pixels, states = examples.source.get("pixels"), examples.source.get("states")
    return Batch(
        layout.as_tensor(ids.astype(np.int64)),
        layout.as_tensor(types.astype(np.int64)),
        layout,
        None if pixels is None else layout.as_tensor(pixels[which]),
        None if states is None else to_device(states.of(examples, which), device),
    )


def labels_of(examples: Examples, which: NDArray[np.int64], per_token: bool, device: torch.device = CPU) -> Tensor:
    """The labels of these examples, of each token for tags."""
    if not per_token:
        return to_device(torch.from_numpy(np.asarray(examples.labels[which])), device)
    parts = [examples.labels[examples.offsets[i] : examples.offsets[i + 1]] for i in which]
    return to_device(torch.from_numpy(np.concatenate(parts).astype(np.int64)), device)


def outputs(
    model: RowModel,
    values: Mapping[str, Tensor],
    examples: Examples,
    rows: int = 1,
    budget: int | None = None,
) -> list[Outputs]:
    """What each row answers to each example, in passes of `budget` tokens of all rows together."""
    arrays = [_empty(model, examples) for _ in range(rows)]
    sums, counts = torch.zeros(2, rows, device=model.device)
    known = _labels_known(model, examples)
    for which in by_length(examples, (budget or pass_tokens(model)) // rows):
        batch = batch_of(examples, np.tile(which, rows), (len(which),) * rows, model.device)
        with torch.no_grad():
            answers = model.answers(batch, values).float()
        if known:
            labels = labels_of(examples, np.tile(which, rows), model.head.kind == "tags", model.device)
            loss = losses(model.head.kind, answers, labels, batch.layout)
            sums, counts = sums + loss.sums, counts + loss.counts
        for array, answer in zip(arrays, answers.cpu().chunk(rows), strict=True):
            _write(model, array, examples, which, answer)
    means = [float(mean) if known else None for mean in sums / counts.clamp(min=1)]
    return [Outputs(array, mean) for array, mean in zip(arrays, means, strict=True)]


def _labels_known(model: RowModel, examples: Examples) -> bool:
    """Can a loss be had?"""
    if model.head.kind == "number":
        return not bool(np.isnan(examples.labels).any())
    return bool((examples.labels >= 0).any() if model.head.kind == "tags" else (examples.labels >= 0).all())


def _empty(model: RowModel, examples: Examples) -> NDArray[Any]:
    """Room for one row's answers to a split."""
    head = model.head
    if head.kind in ("class", "labels"):
        return np.empty((len(examples), head.outputs), np.float32)
    if head.kind == "number":
        return np.empty(len(examples), np.float32)
    tokens = int(examples.offsets[-1])
    return np.empty(tokens, np.int64) if head.kind == "tags" else np.empty((tokens, 2), np.float32)


def _write(model: RowModel, out: NDArray[Any], examples: Examples, which: NDArray[np.int64], answers: Tensor) -> None:
    """Write a batch's answers where they belong."""
    if model.head.per_text:
        out[which] = answers[:, 0].numpy() if model.head.kind == "number" else answers.numpy()
        return
    values = answers.argmax(-1).numpy() if model.head.kind == "tags" else answers.numpy()
    done = 0
    for i in which:
        start, stop = int(examples.offsets[i]), int(examples.offsets[i + 1])
        out[start:stop] = values[done : done + stop - start]
        done += stop - start


def by_length(examples: Examples, budget: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
    """All examples in pieces of about `budget` tokens, the longest first; `start` of them are left out."""
    order = np.argsort(examples.lengths, kind="stable")[::-1]
    ends = np.cumsum(examples.lengths[order])
    while start < len(order):
        used = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, used + budget, side="right")))
        yield order[start:stop]
        start = stop
