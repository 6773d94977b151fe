"""A race of learning rates: rows of one pass, of which all but the best soon leave.

The rows see the same batches, so their losses differ by their rates alone. The race ends within the first epoch, where
every batch is new to them: the loss in training then judges as well as one on validation, and costs nothing. The row
that wins is the one that a training at its rate alone would be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bitfit.training.config import TrainConfig
from bitfit.training.progress import Progress, rate_of

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the rate that suits the method
# After these shares of all steps so many rows are left. Beside the winner's own steps the others take 22 % of a run's.
ROUNDS = ((0.04, 2), (0.10, 1))
FEWEST_STEPS = 40  # of a whole race: fewer cannot tell the rates apart
WINDOW = 0.5  # share of a round, its last part, whose losses count


def rates_to_race(given: TrainConfig, settled: TrainConfig, examples: int) -> tuple[float, ...]:
    """The rates that race for a row: none where one is given, or is to stay level, or where the training is too short
    for a race."""
    assert settled.learning_rate is not None
    assert settled.epochs is not None
    an_epoch = math.ceil(max(examples, 1) / settled.batch_size)
    steps = round_ends(an_epoch * settled.epochs)[-1]
    if given.learning_rate is not None or given.schedule != "linear" or not FEWEST_STEPS <= steps <= an_epoch:
        return ()
    return tuple(factor * settled.learning_rate for factor in FACTORS)


@dataclass(frozen=True)
class Race:
    """The rows that race, by their numbers in the training. How far they are is in their progress."""

    rows: tuple[int, ...]

    def note(self, state: Progress, loss: float) -> None:
        """Remember what one of the rows lost in a step, while the race lasts."""
        if len(state.race_losses) < round_ends(state.steps)[-1]:
            state.race_losses.append(loss)

    def losers(self, progress: Sequence[Progress]) -> list[int]:
        """The rows that leave now, the round being over."""
        still = [row for row in self.rows if not progress[row].ended]
        if len(still) < 2:
            return []
        now = len(progress[still[0]].race_losses)
        left = dict(zip(round_ends(progress[still[0]].steps), (count for _, count in ROUNDS), strict=True)).get(now)
        ranked = sorted(still, key=lambda row: _lately(progress[row]))
        return [] if left is None else ranked[left:]

    def winner(self, progress: Sequence[Progress]) -> int:
        """The row that is left; of those that are, the best so far, where the training was stopped in the race."""
        return min(
            self.rows, key=lambda row: (progress[row].lost_race, bool(progress[row].diverged), _lately(progress[row]))
        )

    def to_json(self, progress: Sequence[Progress]) -> dict[str, Any]:
        """What raced, and the mean loss of each rate when it was last compared."""
        states = [progress[row] for row in self.rows]
        return {
            "rates": [rate_of(state) for state in states],
            "steps": [len(state.race_losses) for state in states],
            "losses": [round(_lately(state), 4) if state.race_losses else None for state in states],
        }

    def text(self, progress: Sequence[Progress]) -> str:
        """Which rate won, and how, in a line."""
        state = progress[self.winner(progress)]
        rates = ", ".join(f"{rate_of(progress[row]):g}" for row in self.rows)
        return (
            f"learning rate {rate_of(state):g}: of {rates} its loss was the lowest after "
            f"{len(state.race_losses):,} of {state.steps:,} steps"
        )


@dataclass(frozen=True)
class Lineup:
    """The rows of a training: one for each config, or some where its rates race."""

    configs: tuple[TrainConfig, ...]  # of all rows, with a learning rate each
    races: tuple[Race, ...]
    groups: tuple[Race, ...]  # for each config its rows, of which one becomes its run

    @classmethod
    def of(cls, configs: Sequence[TrainConfig], rates: Sequence[Sequence[float]]) -> "Lineup":
        """`rates` has those that race for each config, none where none do."""
        rows: list[TrainConfig] = []
        groups: list[Race] = []
        for config, raced in zip(configs, rates, strict=True):
            some = [replace(config, learning_rate=rate) for rate in raced] or [config]
            groups.append(Race(tuple(range(len(rows), len(rows) + len(some)))))
            rows += some
        return cls(tuple(rows), tuple(group for group in groups if len(group.rows) > 1), tuple(groups))


def round_ends(steps: int) -> list[int]:
    """After which step each round ends."""
    return [max(1, int(share * steps)) for share, _ in ROUNDS]


def _lately(state: Progress) -> float:
    """The mean loss over the last part of the steps so far."""
    losses = state.race_losses
    counted = losses[int(len(losses) * (1 - WINDOW)) :]
    return math.fsum(counted) / len(counted) if counted else math.inf
