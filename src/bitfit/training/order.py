"""The order of the data: which examples a row sees at each step, and how a step is cut to fit in memory.

An epoch is a fresh shuffle of all examples, a function of the row's seed and the epoch's number alone. Sequences are
never sorted into batches by length: without padding there is no need. Knows nothing of models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ORDER, DROPOUT = 1, 2  # second part of a seed: what the draws are for


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Some examples of one row that are computed together."""

    row: int
    examples: NDArray[np.int64]


@lru_cache(maxsize=64)  # one epoch of each row
def shuffled(seed: int, epoch: int, examples: int) -> NDArray[np.int64]:
    """The order of an epoch, counted from 0."""
    return np.random.Generator(np.random.SFC64([seed, ORDER, epoch])).permutation(examples)


def steps_an_epoch(examples: int, batch_size: int) -> int:
    """The last batch may be smaller."""
    return -(-examples // batch_size)


def micro_batches(row: int, examples: NDArray[np.int64], lengths: NDArray[np.int64], budget: int) -> list[MicroBatch]:
    """A row's batch in pieces of at most `budget` tokens (at least one example), by its own lengths alone:
    so a row is cut the same way alone and beside others."""
    ends = np.cumsum(lengths[examples])
    if len(examples) == 0 or ends[-1] <= budget:
        return [MicroBatch(row, examples)]
    chunks, start, used = [], 0, 0
    for i, end in enumerate(ends):
        if end - used > budget and i > start:
            chunks.append(MicroBatch(row, examples[start:i]))
            start, used = i, int(ends[i - 1])
    return [*chunks, MicroBatch(row, examples[start:])]


def shared_passes(
    chunks: Sequence[Sequence[MicroBatch]], lengths: NDArray[np.int64], budget: int
) -> Iterator[list[MicroBatch]]:
    """Chunks of different rows that share a pass: at most one of each row, `budget` tokens in all if they can."""
    for turn in range(max((len(own) for own in chunks), default=0)):
        shared: list[MicroBatch] = []
        used = 0
        for own in chunks:
            if turn >= len(own):
                continue
            size = int(lengths[own[turn].examples].sum())
            if shared and used + size > budget:
                yield shared
                shared, used = [], 0
            shared.append(own[turn])
            used += size
        if shared:
            yield shared
