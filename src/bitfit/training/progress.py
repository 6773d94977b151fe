"""How far the rows of a training are: epochs, losses, scores so far."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.backbone.device import to_device
from bitfit.data.examples import Examples
from bitfit.data.task import OF_AN_ORDER, Metric, Task, better
from bitfit.inference.metrics import score
from bitfit.runtime.layout import Layout
from bitfit.training.config import TrainConfig, factor

Shares = Sequence[
    tuple[Sequence[int], Tensor]
]  # of each pass: indices among the step's rows, and their parts of a loss


@dataclass
class Progress:
    """How far one row is, and the best it has been. All of it goes into a checkpoint."""

    config: TrainConfig
    steps: int  # in all
    step: int = 0
    epoch: int = 0  # finished ones
    best_score: float | None = None
    best_loss: float | None = None  # on validation, of the epoch with that score
    best_epoch: int = 0
    loss_sum: float = 0.0  # of this epoch's steps
    history: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False
    diverged: str | None = None  # why it ended, where a loss was no longer finite
    race_losses: list[float] = field(default_factory=list)  # of each step, while a race of learning rates lasts
    lost_race: bool = False  # why it ended, where another rate was better

    @classmethod
    def of(cls, config: TrainConfig, steps_an_epoch: int) -> "Progress":
        """A row before its first step, its settings settled."""
        assert config.epochs is not None
        return cls(config, steps_an_epoch * config.epochs)

    def is_best(self, metric: Metric, scores: Mapping[str, float]) -> bool:
        """Whether the epoch just finished, with these scores on validation, is the best so far; if so it is noted."""
        now, loss = scores.get(metric), scores.get("loss")
        if now is not None and self.best_score is not None:
            if now == self.best_score:  # as often on a few rows: then the lower loss is better
                best = loss is not None and self.best_loss is not None and loss < self.best_loss
            else:
                best = better(metric, now, self.best_score)
            if not best:
                return False
        self.best_score, self.best_loss, self.best_epoch = now, loss, self.epoch
        return True

    def to_json(self) -> dict[str, Any]:
        """All but the settings, as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "config"}


def rate_of(state: Progress) -> float:
    """The row's learning rate before its schedule."""
    assert state.config.learning_rate is not None
    return state.config.learning_rate


def diverged_in_training(state: Progress, before: int, loss: float) -> str:
    """Names the step and the learning rate."""
    rate = rate_of(state)
    return (
        f"The loss became {loss} at step {before + 1} of {state.steps} with learning rate {rate:g} "
        f"({rate * factor(state.config, before, state.steps):g} at that step), seed {state.config.seed}. "
        + _remedy(state)
    )


def diverged_in_validation(state: Progress, loss: float) -> str:
    """Names the epoch and the learning rate."""
    return (
        f"The loss on validation became {loss} after epoch {state.epoch} of {state.config.epochs} with learning rate "
        f"{rate_of(state):g}, seed {state.config.seed}. {_remedy(state)}"
    )


def _remedy(state: Progress) -> str:
    return f"Expected a finite number. Try a learning rate of {rate_of(state) / 3:.1g} or a longer warm-up."


class StepLosses:
    """What the rows of one step lost. A GPU sends it while it works on; reading it waits until it is there."""

    def __init__(self, rows: Sequence[int], steps: Sequence[int], tokens: int, shares: Shares) -> None:
        self.rows, self.steps = tuple(rows), tuple(steps)  # of each row, steps made before this one
        self.tokens = tokens  # real ones, read up to here
        self.shares = [(indices, to_host(values)) for indices, values in shares]
        self.arrived = mark() if any(values.is_cuda for _, values in shares) else None

    def read(self) -> list[float]:
        """Each row's loss."""
        if self.arrived is not None:
            self.arrived.synchronize()
        sums = [0.0] * len(self.rows)
        for indices, values in self.shares:
            for index, share in zip(indices, values.tolist(), strict=True):
                sums[index] += share
        return sums


def to_host(values: Tensor) -> Tensor:
    """A copy in the host's memory, page-locked, that is under way; on the host the values themselves."""
    return values.to("cpu", non_blocking=True)


def mark() -> torch.cuda.Event:
    """A place in the GPU's queue of work."""
    event = torch.cuda.Event()
    event.record()
    return event


class TrainScores:
    """The choice for each example (or token, or label), or the number. Spans would need too much room."""

    def __init__(self, task: Task, examples: Examples, rows: int, device: torch.device) -> None:
        self.task, self.examples, self.device = task, examples, device
        many = int(examples.offsets[-1]) if task.kind == "tags" else len(examples)
        form = {"number": torch.float32, "labels": torch.uint8}.get(task.kind, torch.int16)
        shape = (many, len(task.labels)) if task.kind == "labels" else (many,)
        kept = 0 if task.kind == "span" else rows
        self.values = [torch.zeros(shape, dtype=form, device=device) for _ in range(kept)]

    def note(self, rows: Sequence[int], parts: Sequence[NDArray[np.int64]], answers: Tensor, layout: Layout) -> None:
        """Remember a pass: the rows in it, the examples of each, and what the model answered to them all."""
        if not self.values:
            return
        kind, predicted = self.task.kind, answers.detach()
        if kind == "number":
            predicted = predicted[:, 0].float()
        else:
            predicted = (predicted >= 0).byte() if kind == "labels" else predicted.argmax(-1).to(torch.int16)
        bounds = (layout.tokens if kind == "tags" else layout.sequences).bounds
        for row, which, start, stop in zip(rows, parts, bounds, bounds[1:], strict=False):
            where = self.examples.tokens_of(which) if kind == "tags" else which
            self.values[row].index_copy_(0, to_device(torch.tensor(where), self.device), predicted[start:stop])

    def scores(self, row: int) -> dict[str, float]:
        """The row's scores over the epoch, as it answered while it trained (dropout on)."""
        if not self.values:
            return {}
        predicted = self.values[row].cpu().numpy()
        if self.task.kind == "class":
            predicted = np.eye(len(self.task.labels), dtype=np.float32)[predicted]
        if self.task.kind == "labels":
            return self._of_labels(predicted - 0.5)
        return score(self.task, self.examples, predicted)

    def _of_labels(self, answers: NDArray[Any]) -> dict[str, float]:
        """Without what takes their order."""
        metrics = tuple(name for name in (self.task.metrics or (self.task.metric,)) if name not in OF_AN_ORDER)
        return score(replace(self.task, metrics=metrics), self.examples, answers) if metrics else {}

    def state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Those of these rows, by name; not copied."""
        return {f"chosen.{row}": self.values[row] for row in rows if self.values}

    def restore(self, rows: Sequence[int], state: Mapping[str, Tensor]) -> None:
        """Be as `state` was."""
        for row in rows if self.values else ():
            self.values[row] = state[f"chosen.{row}"]
