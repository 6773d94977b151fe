"""Which tokens and sequences of a batch belong to which row of the bias matrix.

A row is a run, a task or an example. The sequences of a row are neighbours in a batch, so its tokens are too.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bitfit.backbone.device import CPU, as_tensor
from bitfit.runtime.blocks import Blocks
from bitfit.runtime.segments import Segments

ROUND = 64  # tokens of a batch without padding are filled up to a multiple of this


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
