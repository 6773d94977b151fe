"""Which examples each row sees at each step, and how a step is cut to fit in memory.

An epoch is a fresh shuffle of all examples, a function of the row's seed and the epoch's number alone. Sequences are
never sorted into batches by length: without padding there is no need.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER, DROPOUT = 1, 2  # second part of a seed: what the draws are for


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Some examples of one row that are computed together."""

    row: int
    examples: NDArray[np.int64]


def shuffled(seed: int, epoch: int, examples: int) -> NDArray[np.int64]:
    """The order of an epoch, counted from 0."""
    return np.random.Generator(np.random.SFC64([seed, ORDER, epoch])).permutation(examples)


class RowOrder:
    """The batches of one row, by its seed and the number of a step. The shuffle of the latest epoch is kept."""

    def __init__(self, seed: int, examples: int, batch_size: int) -> None:
        self.seed, self.examples, self.batch_size = seed, examples, batch_size
        self.steps_an_epoch = -(-examples // batch_size)  # the last batch may be smaller
        self._epoch = -1
        self._shuffled = np.empty(0, np.int64)

    def batch(self, step: int) -> NDArray[np.int64]:
        """The examples of a step, counted from 0 over all epochs; not to be written to."""
        epoch, number = divmod(step, self.steps_an_epoch)
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, shuffled(self.seed, epoch, self.examples)
            self._shuffled.flags.writeable = False
        return self._shuffled[number * self.batch_size : (number + 1) * self.batch_size]


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
    for turn in range(max((len(row_chunks) for row_chunks in chunks), default=0)):
        shared: list[MicroBatch] = []
        used = 0
        for row_chunks in chunks:
            if turn >= len(row_chunks):
                continue
            size = int(lengths[row_chunks[turn].examples].sum())
            if shared and used + size > budget:
                yield shared
                shared, used = [], 0
            shared.append(row_chunks[turn])
            used += size
        if shared:
            yield shared
