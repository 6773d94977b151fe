"""Two deltas scored on the same rows, and whether chance explains the difference."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bitfit.errors import RequestError
from bitfit.inference.bootstrap import LEVEL, Interval
from bitfit.inference.evaluation import Evaluation


@dataclass(frozen=True)
class PairedComparison:
    """Two evaluations of the same rows."""

    metric: str
    first: float
    second: float
    interval: Interval  # of the second's score less the first's, over draws of the same rows
    only_first: int | None = None  # rows that it alone answers right; None where answers are no classes
    only_second: int | None = None
    p: float | None = None  # of McNemar's exact test, two-sided

    @property
    def difference(self) -> float:
        """The second's score less the first's."""
        return self.second - self.first

    @property
    def told(self) -> bool:
        """Is the difference more than chance explains? Of accuracy McNemar's test must say so too: with few rows that
        only one answers right, the interval is too narrow."""
        apart = self.interval.low > 0 or self.interval.high < 0
        return apart and (self.metric != "accuracy" or self.p is None or self.p < 1 - LEVEL)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return {**asdict(self), "interval": self.interval.to_json(), "difference": self.difference, "told": self.told}


def compare(first: Evaluation, second: Evaluation) -> PairedComparison:
    """Two evaluations side by side; those of other rows are refused."""
    _check_same_rows(first, second)
    metric = next(iter(first.scores))
    scores = first.scores[metric], second.scores[metric]
    assert first.resampled is not None
    assert second.resampled is not None
    interval = Interval.of(second.resampled - first.resampled)
    if first.rows is None or second.rows is None or first.calibration is None:
        return PairedComparison(metric, *scores, interval)
    ours, theirs = _right(first), _right(second)
    only_first, only_second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return PairedComparison(metric, *scores, interval, only_first, only_second, mcnemar(only_first, only_second))


def mcnemar(only_first: int, only_second: int) -> float:
    """How often chance alone would part rows that one of two answers right at least as unevenly: the exact test."""
    from scipy.stats import binomtest

    apart = only_first + only_second
    return float(binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0


def _right(evaluation: Evaluation) -> Any:
    label, answer = (np.asarray(values, object) for values in _labels_and_answers(evaluation))
    return label == answer


def _labels_and_answers(evaluation: Evaluation) -> tuple[list[Any], list[Any]]:
    assert evaluation.rows is not None
    label, answer = evaluation.rows.columns[-3:-1]
    return label.to_pylist(), answer.to_pylist()


def _check_same_rows(first: Evaluation, second: Evaluation) -> None:
    ours, theirs = (next(iter(one.scores)) for one in (first, second))
    if ours != theirs:
        raise RequestError(f"Two scores of one metric can be compared; found '{ours}' and '{theirs}'.")
    same = (first.split, first.measured_on) == (second.split, second.measured_on)
    if same and first.rows is not None and second.rows is not None:
        same = _labels_and_answers(first)[0] == _labels_and_answers(second)[0]
    if not same:
        raise RequestError(
            f"Two evaluations of the same rows can be compared; found '{first.split}' ({first.measured_on} rows) and "
            f"'{second.split}' ({second.measured_on} rows) with other rows. Name the split: `split=...`."
        )
