"""Rows in a batch: which tokens and sequences belong to which row of the bias matrix.

A row is a run, a task or an example. The sequences of a row stand side by side in a batch, so its tokens do too.
Knows nothing of models, files or training.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bitfit.backbone.device import CPU, fresh
from bitfit.runtime.blocks import Blocks
from bitfit.runtime.dropout import Draws

ROUND = 64  # tokens of a batch without padding are filled up to a multiple of this


@dataclass(frozen=True)
class Layout:
    """Where the sequences and rows of one batch lie."""

    lengths: tuple[int, ...]  # tokens of each sequence, in batch order
    counts: tuple[int, ...]  # sequences of each row
    width: int | None = None  # tokens of a padded sequence; None: laid end to end, without padding
    device: torch.device = CPU  # of the batch's tensors

    def fresh(self, numbers: ArrayLike) -> Tensor:
        """Numbers of the host as a tensor beside the batch's own."""
        return fresh(numbers, self.device)

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
        return -self.starts[-1] % ROUND if self.width is None else 0

    def bounds(self, entries: int) -> tuple[int, ...]:
        """First entry of each row, then their end, in a tensor with one entry a token or a sequence."""
        if self.width is None and entries in (self.starts[-1], self.starts[-1] + self.filler):
            return tuple(self.starts[row] for row in self.row_starts)
        if self.rows == 1:
            return (0, entries)
        each, rest = divmod(entries, self.row_starts[-1])
        if rest:
            raise ValueError(f"{entries} entries belong to no whole number for each of {self.row_starts[-1]}")
        return tuple(row * each for row in self.row_starts)

    def bounds_in(self, x: Tensor) -> tuple[int, ...]:
        """The bounds in a tensor whose entries are its last dimension's lines; empty where one row has them all."""
        return self.bounds(x.numel() // x.shape[-1]) if self.rows > 1 else ()

    def owners(self, entries: int) -> Tensor:
        """The row of each entry, for those that belong to one."""
        return self.fresh(np.repeat(np.arange(self.rows), np.diff(self.bounds(entries))))

    @cached_property
    def positions(self) -> Tensor:
        """Position of each token within its own sequence, from 0; (tokens,)."""
        lengths = np.asarray(self.lengths)
        return self.fresh(np.arange(self.starts[-1]) - np.repeat(self.starts[:-1], lengths))

    @cached_property
    def cuts(self) -> Tensor:
        """`starts` in the form that torch's attention takes; int32 (sequences + 1,)."""
        return self.fresh(np.asarray(self.starts, np.int32))

    @cached_property
    def real(self) -> Tensor:
        """Where each token stands when every sequence is padded to the longest, counted through all; (tokens,)."""
        first = np.repeat(np.arange(len(self.lengths)) * max(self.lengths), self.lengths)
        return self.fresh(first) + self.positions

    @cached_property
    def blocks(self) -> Blocks:
        """What attention works on."""
        return Blocks(self.starts, self.row_starts, self.filler, self.device)


@dataclass
class Flow:
    """What every fast layer of a model shares about the pass under way."""

    layout: Layout = field(default_factory=lambda: Layout((), ()))
    draws: Draws | None = None  # None: no dropout in this pass

    def signs(self, sizes: Sequence[int], share: float) -> Tensor:
        """Integers of which each is negative with probability `share`; `sizes` of them for each row."""
        assert self.draws is not None
        return self.draws.signs(sizes, share)

    @contextmanager
    def without_dropout(self) -> Iterator[Draws | None]:
        """Without dropout while the block runs; gives what was drawn from before."""
        draws, self.draws = self.draws, None
        try:
            yield draws
        finally:
            self.draws = draws
