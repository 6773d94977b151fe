"""Which epoch of a row is its best."""

from typing import Any

import pytest

from bitfit.training.config import TrainConfig
from bitfit.training.progress import Progress


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([{"accuracy": 0.5, "loss": 1.0}, {"accuracy": 0.7, "loss": 2.0}, {"accuracy": 0.6, "loss": 0.5}], 2),
        ([{"accuracy": 0.7, "loss": 0.8}, {"accuracy": 0.7, "loss": 0.4}, {"accuracy": 0.7, "loss": 0.6}], 2),
        ([{"accuracy": 0.7, "loss": 0.4}, {"accuracy": 0.7, "loss": 0.4}], 1),
        ([{"accuracy": 0.7}, {"accuracy": 0.7}], 1),
        ([{}, {}, {}], 3),  # without validation the last one is
    ],
)
def test_the_best_epoch_has_the_best_score_and_of_equal_ones_the_lowest_loss(
    epochs: list[dict[str, float]], best: int
) -> None:
    row = Progress.of(TrainConfig(epochs=3), 1)
    for scores in epochs:
        row.epoch += 1
        row.is_best("accuracy", scores)
    assert row.best_epoch == best


def test_of_errors_the_smallest_is_best() -> None:
    row = Progress.of(TrainConfig(epochs=3), 1)
    found: list[Any] = []
    for epoch, error in enumerate((0.3, 0.1, 0.2), 1):
        row.epoch = epoch
        found.append(row.is_best("mean_squared_error", {"mean_squared_error": error, "loss": 1.0}))
    assert (found, row.best_epoch) == ([True, True, False], 2)
