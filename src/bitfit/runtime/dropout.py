"""Dropout masks: fast, and the same for a row alone or beside others.

Each row has a generator of its own that moves on with every draw. On a processor it is SFC64, 64 bits at a time, cut
into 16-bit draws: torch's own draws one element after another and costs more than the matrix products. On a GPU it is
torch's.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEVELS = 1 << 15  # a draw is 15 uniform bits; a rate is rounded to this, 0.1 to 0.10001
ALL_BITS = 2**64 - 1


class Draws:
    """One generator for each row."""

    generators: list[Any]

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
        """For a while, draw for these rows alone; the others' generators do not move on."""
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


class DeviceDraws(Draws):
    """The same on a device, with generators of torch. A row draws the same alone and beside others where it draws as
    many at once: how a GPU counts draws depends on that."""

    def __init__(self, seeds: Sequence[int | Sequence[int]], device: torch.device) -> None:
        self.device = device
        self.generators = [_generator(seed, device) for seed in seeds]

    def bits(self, sizes: Sequence[int]) -> Tensor:
        found = torch.empty(sum(sizes), dtype=torch.int16, device=self.device)
        for generator, (start, stop) in zip(self.generators, pairwise((0, *accumulate(sizes))), strict=True):
            if start < stop:
                found[start:stop].random_(-LEVELS, LEVELS, generator=generator)
        return found

    def seed(self) -> int:
        """Made of where the first row's generator stands, which the host knows without waiting; then it moves on."""
        first = self.generators[0]
        digest = hashlib.blake2b(first.get_state().numpy().tobytes(), digest_size=8).digest()
        torch.empty(1, device=self.device).uniform_(generator=first)
        return int.from_bytes(digest, "little") // 2

    def state(self) -> list[dict[str, Any]]:
        return [{"torch": generator.get_state().numpy().tobytes().hex()} for generator in self.generators]

    def restore(self, state: Sequence[dict[str, Any]]) -> None:
        for generator, saved in zip(self.generators, state, strict=True):
            generator.set_state(torch.frombuffer(bytearray.fromhex(saved["torch"]), dtype=torch.uint8))


def draws_on(device: torch.device, seeds: Sequence[int | Sequence[int]]) -> Draws:
    """One generator for each row, of the kind that suits the device."""
    return Draws(seeds) if device.type == "cpu" else DeviceDraws(seeds, device)


def _generator(seed: int | Sequence[int], device: torch.device) -> torch.Generator:
    """A generator of torch with all bits of a seed of numpy's kind mixed."""
    mixed = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed[0]))


def _plain(state: Any) -> dict[str, Any]:
    """A generator's state with its array as a list of integers."""
    return {**state, "state": {"state": [int(word) for word in state["state"]["state"]]}}
