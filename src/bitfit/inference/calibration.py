"""Confidences that mean what they say: a temperature for a head's numbers, and how far off they are."""

from dataclasses import asdict, dataclass
from math import floor, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of equal width, as Guo and others have them
PRIOR = 0.5  # deviation of the temperature's logarithm: few rows that are all answered right say little
COLDEST, HOTTEST = 0.05, 20.0
DIGITS = 4

Floats = NDArray[np.float64]


def probabilities(logits: NDArray[Any], temperature: float = 1.0) -> NDArray[Any]:
    """(rows, labels) each label's share, adding up to 1."""
    scaled = np.asarray(logits) / temperature
    shares = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def fitted_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The temperature that makes the labels likeliest (Guo and others, 2017), drawn to 1 where rows are few."""
    from scipy.optimize import minimize_scalar

    numbers, each = np.asarray(logits, np.float64), np.arange(len(labels))

    def surprise(log: float) -> float:
        scaled = numbers / np.exp(log)
        top = scaled.max(axis=1)
        likelihood = scaled[each, labels] - top - np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(0.5 * (log / PRIOR) ** 2 - likelihood.sum())

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    best = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return round(float(np.exp(best.x)), DIGITS)


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence."""

    confidence: float  # their mean
    accuracy: float
    rows: int


@dataclass(frozen=True)
class Calibration:
    """How far confidences are from the share of right answers, without and with the delta's temperature."""

    temperature: float | None  # None: the delta has none
    error_before: float  # expected calibration error
    error_after: float | None
    bins: tuple[Bin, ...]  # of the confidences that `predict` gives

    @property
    def error_by_chance(self) -> float:
        """The error that so many rows would have if every confidence meant what it says."""
        rows = sum(one.rows for one in self.bins)
        deviations = [sqrt(one.rows * one.confidence * (1 - one.confidence)) for one in self.bins]
        return sqrt(2 / pi) * sum(deviations) / rows  # the mean distance of a normal variable from its mean

    def to_json(self) -> dict[str, Any]:
        """The calibration as plain values."""
        return {
            "temperature": self.temperature,
            "expected_error_before": self.error_before,
            "expected_error_after": self.error_after,
            "expected_error_by_chance": self.error_by_chance,
            "bins": [asdict(one) for one in self.bins],
        }


@dataclass(frozen=True)
class Threshold:
    """The least confidence above which answers are as precise as was asked for."""

    precision: float  # asked for
    confidence: float | None  # None: no confidence is enough
    coverage: float  # share of the rows that are answered so surely
    reached: float | None  # their share of right answers

    def to_json(self) -> dict[str, Any]:
        """The threshold as plain values."""
        return asdict(self)


def threshold_of(confidence: NDArray[Any], right: NDArray[np.bool_], precision: float) -> Threshold:
    """The threshold of rows with these confidences; 0 where all answers together are precise enough."""
    order = np.argsort(-confidence, kind="stable")
    reached = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences stay together
    enough = np.flatnonzero((reached >= precision) & ends)
    if not len(enough):
        return Threshold(precision, None, 0.0, None)
    last = int(enough[-1])
    rounded = floor(float(confidence[order[last]]) * 10**DIGITS) / 10**DIGITS
    least = 0.0 if last == len(order) - 1 else rounded
    return Threshold(precision, least, (last + 1) / len(order), float(reached[last]))


def calibration_of(logits: NDArray[Any], labels: NDArray[np.int64], temperature: float | None) -> Calibration:
    """The calibration of these rows; `temperature` is the delta's."""
    before = _bins(logits, labels, 1.0)
    if temperature is None:
        return Calibration(None, expected_error(before), None, before)
    after = _bins(logits, labels, temperature)
    return Calibration(temperature, expected_error(before), expected_error(after), after)


def expected_error(bins: tuple[Bin, ...]) -> float:
    """The mean distance between confidence and accuracy, over all rows."""
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / rows


def _bins(logits: NDArray[Any], labels: NDArray[np.int64], temperature: float) -> tuple[Bin, ...]:
    """Rows in bins of equal width of their confidence; those without rows are left out."""
    confidence = probabilities(logits, temperature).max(axis=1)
    right = np.asarray(logits).argmax(axis=1) == labels
    number = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    parts = [np.flatnonzero(number == one) for one in np.unique(number)]
    return tuple(Bin(float(confidence[part].mean()), float(right[part].mean()), len(part)) for part in parts)
