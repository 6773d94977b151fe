"""Groups of sequences of similar length, which attention works on.

All that the groups of a batch hold lies in one tensor, a line for each position of each head, the lines of a group side
by side: one index takes it from the tokens, one puts it back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.backbone.device import as_tensor

SCORES = 1 << 18  # attention scores of a group, for one head: larger blocks leave the processor's cache between passes


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
