"""A race of learning rates: rows of one pass, of which all but the best soon leave.

The rows see the same batches, so their losses differ by their rates alone. The race ends within the first epoch, where
every batch is new to them: the loss in training then judges as well as one on validation, and costs nothing. The row
that wins is the one that a training at its rate alone would be.

A race is a safeguard more than a search: a rate that is best after a short time is seldom best after a long one, so the
rate that suits the method wins unless another one is clearly ahead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from bitfit.training.config import TrainConfig
from bitfit.training.progress import Progress, rate_of

FACTORS = (0.25, 1.0, 4.0)  # of the rate that suits the method
# Share of all steps that the race takes: beside the winner's own steps the others take 26 % of a run's. Early on a high
# rate always looks best, so what counts is its last part, after the warm-up, where a rate that is too high shows.
LENGTH, COUNTED = 0.13, 0.03
LEAD = 0.9  # of the loss at the rate that suits: another one must be as low to win
FEWEST_STEPS = 40  # of a race: fewer cannot tell the rates apart


def rates_to_race(given: TrainConfig, settled: TrainConfig, examples: int) -> tuple[float, ...]:
    """The rates that race for a row: none where one is given, or is to stay level, or where the training is too short
    for a race."""
    assert settled.learning_rate is not None
    assert settled.epochs is not None
    an_epoch = math.ceil(max(examples, 1) / settled.batch_size)
    steps = race_steps(an_epoch * settled.epochs)
    if given.learning_rate is not None or given.schedule != "linear" or not FEWEST_STEPS <= steps <= an_epoch:
        return ()
    return tuple(factor * settled.learning_rate for factor in FACTORS)


@dataclass(frozen=True)
class Race:
    """The rows that race, by their numbers in the training. How far they are is in their progress."""

    rows: tuple[int, ...]
    favourite: int  # the row at the rate that suits the method

    def note(self, state: Progress, loss: float) -> None:
        """Remember what one of the rows lost in a step, while the race lasts."""
        if len(state.race_losses) < race_steps(state.steps):
            state.race_losses.append(loss)

    def losers(self, progress: Sequence[Progress]) -> list[int]:
        """The rows that leave now, the race being over."""
        still = [row for row in self.rows if not progress[row].ended]
        if len(still) < 2 or len(progress[still[0]].race_losses) < race_steps(progress[still[0]].steps):
            return []
        winner = self.winner(progress)
        return [row for row in still if row != winner]

    def winner(self, progress: Sequence[Progress]) -> int:
        """The row that is left, or that would be if the race ended now."""
        left = [row for row in self.rows if not progress[row].lost_race]
        sound = [row for row in left if progress[row].diverged is None] or left
        best = min(sound, key=lambda row: _lately(progress[row]))
        ahead = _lately(progress[best]) <= LEAD * _lately(progress[self.favourite])
        return best if ahead or self.favourite not in sound else self.favourite

    def to_json(self, progress: Sequence[Progress]) -> dict[str, Any]:
        """What raced, and the mean loss of each rate when it was last compared."""
        states = [progress[row] for row in self.rows]
        return {
            "rates": [rate_of(state) for state in states],
            "steps": [len(state.race_losses) for state in states],
            "losses": [round(_lately(state), 4) if state.race_losses else None for state in states],
        }

    def text(self, progress: Sequence[Progress]) -> str:
        """Which rate won, and why, in a line."""
        state = progress[self.winner(progress)]
        losses = ", ".join(f"{rate_of(progress[row]):g} (loss {_lately(progress[row]):.3f})" for row in self.rows)
        steps = f"{len(state.race_losses):,} of {state.steps:,} steps"
        return f"learning rate {rate_of(state):g}, of {losses} after {steps}"


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
            numbers = tuple(range(len(rows), len(rows) + len(some)))
            groups.append(Race(numbers, favourite=numbers[some.index(config)]))
            rows += some
        return cls(tuple(rows), tuple(group for group in groups if len(group.rows) > 1), tuple(groups))


def runs_of(rows: int, races: Sequence[Race]) -> list[int]:
    """The number of the run that each row becomes, or races to become."""
    later = {row for race in races for row in race.rows[1:]}
    return [runs - 1 for runs in accumulate(row not in later for row in range(rows))]


def race_steps(steps: int) -> int:
    """How many of all steps a race takes."""
    return max(1, int(LENGTH * steps))


def _lately(state: Progress) -> float:
    """The mean loss over the steps that count."""
    counted = state.race_losses[-max(1, int(COUNTED * state.steps)) :]
    return math.fsum(counted) / len(counted) if counted else math.inf
