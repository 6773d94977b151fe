"""The losses of a step on their way to the host, which need not wait for them; knows nothing of what they decide."""

from collections.abc import Sequence

import torch
from torch import Tensor

Shares = Sequence[tuple[Sequence[int], Tensor]]  # of each pass: places among the step's rows, and their parts of a loss


class StepLosses:
    """What the rows of one step lost. A GPU sends it while it works on; reading it waits until it is there."""

    def __init__(self, rows: Sequence[int], steps: Sequence[int], tokens: int, shares: Shares) -> None:
        self.rows, self.steps = tuple(rows), tuple(steps)  # of each row, steps made before this one
        self.tokens = tokens  # real ones, read up to here
        self.shares = [(places, to_host(values)) for places, values in shares]
        self.arrived = mark() if any(values.is_cuda for _, values in shares) else None

    def read(self) -> list[float]:
        """Each row's loss."""
        if self.arrived is not None:
            self.arrived.synchronize()
        sums = [0.0] * len(self.rows)
        for places, values in self.shares:
            for place, share in zip(places, values.tolist(), strict=True):
                sums[place] += share
        return sums


def to_host(values: Tensor) -> Tensor:
    """A copy in the host's memory, page-locked, that is under way; on the host the values themselves."""
    return values.to("cpu", non_blocking=True)


def mark() -> torch.cuda.Event:
    """A place in the GPU's queue of work."""
    event = torch.cuda.Event()
    event.record()
    return event
