"""Adds each row's values to its part of a tensor, and sums their gradients.

The entries of a row are neighbours, so a few operations on the whole tensor do what a loop over the rows would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bitfit.backbone.device import CPU, as_tensor

FEW_POSITIONS = 1 << 14  # that padding all rows to the longest may take whatever their lengths: some 10 MB


@dataclass(frozen=True, eq=False)
class Segments:
    """Where each row's entries lie; entries behind the last bound are filler and belong to no row."""

    bounds: tuple[int, ...]  # first entry of each row, then their end
    device: torch.device = CPU

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.bounds) - 1

    @property
    def size(self) -> int:
        """Entries that belong to a row."""
        return self.bounds[-1]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Entries of each row."""
        return tuple(stop - start for start, stop in pairwise(self.bounds))

    @cached_property
    def owners(self) -> Tensor:
        """The row of each entry; int64 (size,)."""
        return as_tensor(np.repeat(np.arange(self.rows), self.counts), self.device)

    @cached_property
    def _bags(self) -> tuple[Tensor, Tensor]:
        """All entries, and the first of each row, as an embedding bag takes them."""
        return as_tensor(np.arange(self.size), self.device), as_tensor(np.asarray(self.bounds[:-1]), self.device)

    def spread(self, values: Tensor, entries: int) -> Tensor:
        """Each entry's row of values: (rows, n) -> (entries, n), zero at filler."""
        out = values.new_empty(entries, values.shape[1])
        torch.index_select(values, 0, self.owners, out=out[: self.size])
        out[self.size :] = 0
        return out

    def sums(self, entries: Tensor) -> Tensor:
        """The sum over each row's entries: (entries, n) -> (rows, n), added up in fp32."""
        return functional.embedding_bag(self._bags[0], entries.float(), self._bags[1], mode="sum")

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor]:
        """With all rows as long as the longest: the entry at each position, and the position of each entry."""
        counts, longest = np.asarray(self.counts), max(self.counts)
        step = np.arange(longest)[None, :]
        entries = np.where(step < counts[:, None], np.asarray(self.bounds[:-1])[:, None] + step, 0)
        filled = np.flatnonzero(step < counts[:, None])
        return as_tensor(entries.reshape(-1), self.device), as_tensor(filled, self.device)


def bias_sums(gradient: Tensor, segments: Segments | None, many: bool) -> Tensor:
    """The gradient of a vector that was added: the sum over its entries, for each row where there are many; fp32."""
    flat = gradient.reshape(-1, gradient.shape[-1])
    if many:
        assert segments is not None
        return segments.sums(flat)
    return _sum(flat)


def _sum(entries: Tensor) -> Tensor:
    """The sum over all entries, (entries, n) -> (n,), added up in fp32."""
    if entries.dtype == torch.float32 or not entries.is_cpu:
        return entries.sum(0, dtype=torch.float32)
    # torch's sum of 16-bit numbers gives 16 bits, and one with `dtype` copies all of them first. The gradient of a
    # batch norm's bias is the same sum in its weight's format; what else that operation takes has no influence on it.
    entries = entries.contiguous()  # otherwise it is neither fast nor exact
    ones, none = entries.new_ones(entries.shape[1], dtype=torch.float32), None
    total: Tensor = torch.ops.aten.native_batch_norm_backward(
        entries, entries, ones, none, none, ones, ones, True, 0.0, [False, False, True]
    )[2]
    return total


def linear_of_rows(x: Tensor, weight: Tensor, bias: Tensor | None, segments: Segments) -> Tensor:
    """A linear layer with a weight (rows, out, in) and a bias (rows, out) for each row."""
    flat = x.reshape(-1, x.shape[-1])
    if segments.rows * max(segments.counts) <= max(2 * segments.size, FEW_POSITIONS):
        answers = _padded_product(flat, weight, bias, segments)
    else:  # one row is far longer than the rest: padding them to it would cost more than a loop
        answers = _product_by_row(flat, weight, bias, segments.bounds)
    return answers.view(*x.shape[:-1], weight.shape[1])


def _padded_product(flat: Tensor, weight: Tensor, bias: Tensor | None, segments: Segments) -> Tensor:
    entries, filled = segments.padded
    alike = len(set(segments.counts)) == 1
    rows = (flat if alike else flat.index_select(0, entries)).view(segments.rows, -1, flat.shape[1])
    turned = weight.transpose(1, 2)
    answers = torch.bmm(rows, turned) if bias is None else torch.baddbmm(bias[:, None], rows, turned)
    answers = answers.flatten(0, 1)
    return answers if alike else answers.index_select(0, filled)


def _product_by_row(flat: Tensor, weight: Tensor, bias: Tensor | None, bounds: Sequence[int]) -> Tensor:
    return torch.cat(
        [
            functional.linear(flat[start:stop], weight[row], None if bias is None else bias[row])
            for row, (start, stop) in enumerate(pairwise(bounds))
        ]
    )
