"""Which tokens and sequences of a batch belong to which row, and groups of similar length for attention.

All that the groups of a batch hold lies in one tensor, a line for each position of each head, the lines of a group side
by side: one index takes it from the tokens, one puts it back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bitfit.backbone.device import CPU, as_tensor
from bitfit.runtime.segments import Segments

SCORES = 1 << 18  # attention scores of a group, for one head: larger blocks leave the processor's cache between passes
ROUND = 64  # tokens of a batch without padding are filled up to a multiple of this


@dataclass(frozen=True, eq=False)
class Group:
    """Some sequences of a batch, each given `width` positions; those behind a short one are empty."""

    width: int
    sequences: tuple[int, ...]
    counts: tuple[int, ...]  # sequences of each row
    positions: NDArray[np.int64]  # (sequences, width) the token at each position; an empty one repeats the first token
    full: NDArray[np.bool_]  # (sequences, width) False at empty positions
    hidden: dict[object, Tensor | None] = field(default_factory=dict)  # what attention hides, kept for all layers

    @classmethod
    def of(cls, sequences: Sequence[int], width: int, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> "Group":
        """The group of these sequences; `starts` are the first tokens of all, `ends` the last sequences of the rows."""
        which = np.asarray(sequences)
        lengths = np.diff(starts)[which, None]
        step = np.arange(width)[None, :]
        full = step < lengths
        counts = np.bincount(np.searchsorted(ends, which, side="right"), minlength=len(ends))
        positions = starts[which, None] + np.where(full, step, 0)
        return cls(width, tuple(sequences), tuple(counts.tolist()), positions, full)


class Blocks:
    """The groups of a batch, shortest sequences first, each no more than a processor's cache holds.

    A GPU has no use for small blocks; and there, what a row draws depends on how much it draws at once.
    """

    def __init__(self, starts: Sequence[int], row_starts: Sequence[int], filler: int, device: torch.device) -> None:
        self.tokens, self.device = starts[-1] + filler, device
        lengths, ends = np.diff(np.asarray(starts)), np.asarray(row_starts)[1:]
        buckets: dict[int, list[int]] = {}
        for i, length in enumerate(lengths.tolist()):
            buckets.setdefault(bucket(length), []).append(i)
        self.groups: list[Group] = []
        for width in sorted(buckets):
            most = max(1, SCORES // width**2) if device.type == "cpu" else len(lengths)
            for i in range(0, len(buckets[width]), most):
                self.groups.append(Group.of(buckets[width][i : i + most], width, np.asarray(starts), ends))
        self.size = sum(group.positions.size for group in self.groups)
        self._cached: dict[tuple[int, int], Indices] = {}

    def take(self, x: Tensor) -> Tensor:
        """What the groups hold of x (tokens, parts, heads, size): (lines, size)."""
        return x.reshape(-1, x.shape[-1]).index_select(0, self._indices(x.shape[1], x.shape[2]).take)

    def put(self, lines: Tensor, parts: int, heads: int) -> Tensor:
        """Of lines made by `blank`, x again: (tokens, parts, heads, size), zero at filler."""
        x = lines.index_select(0, self._indices(parts, heads).put)
        return x.view(self.tokens, parts, heads, lines.shape[-1])

    def blank(self, like: Tensor, parts: int, heads: int) -> Tensor:
        """Lines to be written to, (lines + 1, size of `like`). The last is zero: filler is put from there."""
        lines = like.new_empty(self.size * parts * heads + 1, like.shape[-1])
        lines[-1] = 0
        return lines

    def of_each(self, lines: Tensor, parts: int, heads: int) -> Iterator[Tensor]:
        """Each group's block of the lines, (parts, sequences * heads, width, size); a view."""
        stop = 0
        for group in self.groups:
            start, stop = stop, stop + group.positions.size * parts * heads
            yield lines[start:stop].view(parts, -1, group.width, lines.shape[-1])

    def full(self, heads: int) -> Tensor | None:
        """Of the lines of one part, (lines, 1), False at empty positions; None where there are none."""
        return self._indices(1, heads).full

    def _indices(self, parts: int, heads: int) -> "Indices":
        if (parts, heads) not in self._cached:
            tokens, full = (np.concatenate(each) for each in zip(*self._lines(parts, heads), strict=True))
            back = np.full(self.tokens * parts * heads, len(tokens), np.int32)
            back[tokens[full]] = np.flatnonzero(full)
            some_empty = None if full.all() else as_tensor(full[:, None], self.device)
            take, put = as_tensor(tokens, self.device), as_tensor(back, self.device)
            self._cached[parts, heads] = Indices(take, put, some_empty)
        return self._cached[parts, heads]

    def _lines(self, parts: int, heads: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """For each group's lines: which of (tokens, parts, heads) each holds, and whether its position is not empty."""
        part, head = np.arange(parts)[:, None, None, None], np.arange(heads)[None, None, :, None]
        for group in self.groups:
            lines = (group.positions[None, :, None, :] * parts + part) * heads + head
            yield lines.reshape(-1).astype(np.int32), np.broadcast_to(group.full[:, None], lines.shape).reshape(-1)


class Indices(NamedTuple):
    """Between a batch's tokens and the lines of its groups, for so many parts and heads."""

    take: Tensor  # int32 (lines,): which of (tokens, parts, heads) stands in a line
    put: Tensor  # int32 (tokens * parts * heads,): the line of each; for filler one behind the last
    full: Tensor | None  # (lines, 1) False at empty positions; None where there are none


def bucket(length: int) -> int:
    """The width that attention gives a sequence: a function of its own length alone, so that a row draws
    the same dropout alone and beside others. Steps of 32 up to 128, then half of the power of two below: few
    groups, since each costs a fixed time and short sequences cost little else."""
    step = 32 if length <= 128 else 1 << ((length - 1).bit_length() - 2)
    return -(-length // step) * step


@dataclass(frozen=True)
class Layout:
    """Where the sequences and rows of one batch lie."""

    lengths: tuple[int, ...]  # tokens of each sequence, in batch order
    counts: tuple[int, ...]  # sequences of each row
    device: torch.device = CPU  # of the batch's tensors

    def as_tensor(self, numbers: ArrayLike) -> Tensor:
        """Numbers of the host as a tensor beside the batch's own."""
        return as_tensor(numbers, self.device)

    @property
    def rows(self) -> int:
        """Rows of the bias matrix that this batch uses."""
        return len(self.counts)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First token of each sequence, then the number of tokens."""
        return (0, *accumulate(self.lengths))

    @cached_property
    def row_starts(self) -> tuple[int, ...]:
        """First sequence of each row, then the number of sequences."""
        return (0, *accumulate(self.counts))

    @property
    def filler(self) -> int:
        """Tokens laid behind the last sequence so that the number of all is round: matrix products of a size
        not seen before cost the processor's library more than the product itself. They belong to no row."""
        return -self.starts[-1] % ROUND

    @cached_property
    def tokens(self) -> Segments:
        """Each row's tokens, in tensors with one entry a token."""
        return Segments(tuple(self.starts[first] for first in self.row_starts), self.device)

    @cached_property
    def sequences(self) -> Segments:
        """Each row's sequences, in tensors with one entry a sequence."""
        return Segments(self.row_starts, self.device)

    def of_rows(self, start: int, stop: int) -> "Layout":
        """The layout of some rows alone, from `start` up to `stop`."""
        lengths = self.lengths[self.row_starts[start] : self.row_starts[stop]]
        return Layout(lengths, self.counts[start:stop], self.device)

    @cached_property
    def positions(self) -> Tensor:
        """Position of each token within its own sequence, from 0; (tokens,)."""
        lengths = np.asarray(self.lengths)
        return self.as_tensor(np.arange(self.starts[-1]) - np.repeat(self.starts[:-1], lengths))

    @cached_property
    def cuts(self) -> Tensor:
        """`starts` in the form that torch's attention takes; int32 (sequences + 1,)."""
        return self.as_tensor(np.asarray(self.starts, np.int32))

    @cached_property
    def real(self) -> Tensor:
        """Where each token stands when every sequence is padded to the longest, counted through all; (tokens,)."""
        first = np.repeat(np.arange(len(self.lengths)) * max(self.lengths), self.lengths)
        return self.as_tensor(first) + self.positions

    @cached_property
    def blocks(self) -> Blocks:
        """What attention works on."""
        return Blocks(self.starts, self.row_starts, self.filler, self.device)


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences of one step, those of a row side by side."""

    ids: Tensor  # int64 (tokens,)
    types: Tensor  # int64 (tokens,) token types
    layout: Layout
    pixels: Tensor | None = None  # (sequences, channels, height, width) for images, each a sequence of one token
    states: Tensor | None = None  # what `read` gives for them, where it is known: what lies below is not run then
