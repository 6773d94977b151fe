"""Two evaluations of the same rows: McNemar's test by hand, and whether a difference is told."""

from math import comb

import numpy as np
import pyarrow as pa
import pytest

import bitfit
from bitfit import Evaluation
from bitfit.data.examples import Examples
from bitfit.data.task import Task
from bitfit.errors import RequestError
from bitfit.inference.bootstrap import Interval, resampled
from bitfit.inference.calibration import calibration_of
from bitfit.inference.compare import mcnemar

TASK = Task("t", labels=("no", "yes"))


def evaluation(right: np.ndarray, split: str = "test", label: int = 1) -> Evaluation:
    """One whose rows all have one label."""
    count, labels = len(right), np.full(len(right), label)
    examples = Examples(np.zeros(count, np.int32), np.zeros(count, np.uint8), np.arange(count + 1), labels)
    answers = np.where(right, label, 1 - label)
    logits = np.eye(2, dtype=np.float32)[answers]
    columns = {"label": labels.astype(str), "answer": answers.astype(str), "confidence": np.ones(count)}
    drawn = resampled(TASK, examples, logits)
    return Evaluation(
        split,
        {"accuracy": float(right.mean())},
        f"{count:,}",
        Interval.of(drawn),
        resampled=drawn,
        calibration=calibration_of(logits, labels, None),
        rows=pa.table(columns),
    )


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(2 * (comb(6, 0) + comb(6, 1)) / 2**6)


def test_a_clear_difference_is_told_and_a_small_one_is_not() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(500) < 0.8
    second = first | (rng.random(500) < 0.4)
    found = bitfit.compare(evaluation(first), evaluation(second))
    assert found.told
    assert found.difference == pytest.approx(second.mean() - first.mean())
    assert found.interval.low < found.difference < found.interval.high
    assert (found.only_first, found.only_second) == (0, int((second & ~first).sum()))
    assert found.p is not None
    assert found.p < 1e-6
    third = first.copy()
    third[:4] = ~third[:4]
    again = bitfit.compare(evaluation(first), evaluation(third))
    assert not again.told
    assert again.p is not None
    assert again.p > 0.1


def test_rows_that_both_answer_alike_narrow_the_interval() -> None:
    right = np.random.default_rng(0).random(300) < 0.7
    same = bitfit.compare(evaluation(right), evaluation(right))
    assert same.interval.to_json() == [0, 0]
    assert (same.p, same.told) == (1.0, False)


@pytest.mark.parametrize(
    "other",
    [evaluation(np.ones(5, bool)), evaluation(np.ones(6, bool), "train"), evaluation(np.ones(6, bool), label=0)],
)
def test_other_rows_are_refused(other: Evaluation) -> None:
    with pytest.raises(RequestError, match=r"of the same rows can be compared; found 'test' \(6 rows\) and"):
        bitfit.compare(evaluation(np.ones(6, bool)), other)
