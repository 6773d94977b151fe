"""Dropout draws: fast, independent between sites, steps and rows, and the same for a row alone or beside others.

Each row has a generator of its own (SFC64, 64 bits at a time, cut into 16-bit draws) that moves on with every
draw. torch's own generator for the CPU draws one element after another and costs more than the matrix products.
Knows nothing of layers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEVELS = 1 << 15  # a draw is 15 uniform bits; a rate is rounded to this, 0.1 to 0.10001
ALL_BITS = 2**64 - 1


class Draws:
    """One generator for each row."""

    def __init__(self, seeds: Sequence[int | Sequence[int]]) -> None:
        self.generators = [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]

    def signs(self, sizes: Sequence[int], share: float) -> Tensor:
        """16-bit integers laid end to end, `sizes[r]` for row r: each is negative with probability `share`."""
        # In place, pass by pass: 15 uniform bits, then what is below the share's level falls below zero.
        return self.bits(sizes).bitwise_and_(LEVELS - 1).sub_(round(share * LEVELS))

    def bits(self, sizes: Sequence[int]) -> Tensor:
        """Uniform 16-bit integers, `sizes[r]` of them from row r's generator."""
        parts = [
            generator.integers(0, ALL_BITS, size=-(-size // 4), dtype=np.uint64, endpoint=True).view(np.int16)[:size]
            for generator, size in zip(self.generators, sizes, strict=True)
        ]
        return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def seed(self) -> int:
        """A seed for torch's own generator, from the first row's."""
        return int(self.generators[0].integers(0, ALL_BITS // 2))

    def select(self, rows: Sequence[int]) -> None:
        """Keep the generators of these rows alone."""
        self.generators = [self.generators[row] for row in rows]

    @contextmanager
    def only(self, rows: Sequence[int]) -> Iterator[None]:
        """For a while, draw for these rows alone; the others' generators stand still."""
        everyone = self.generators
        self.generators = [everyone[row] for row in rows]
        try:
            yield
        finally:
            self.generators = everyone

    def state(self) -> list[dict[str, Any]]:
        """Where each generator stands, as plain values."""
        return [_plain(generator.bit_generator.state) for generator in self.generators]

    def restore(self, state: Sequence[dict[str, Any]]) -> None:
        """Put each generator back to where `state` found it."""
        for generator, saved in zip(self.generators, state, strict=True):
            inner = {**saved["state"], "state": np.array(saved["state"]["state"], dtype=np.uint64)}
            generator.bit_generator.state = {**saved, "state": inner}


def _plain(state: Any) -> dict[str, Any]:
    """A generator's state with its array as a list of integers."""
    return {**state, "state": {"state": [int(word) for word in state["state"]["state"]]}}
