"""Which labels of a text are answered: from which share on, chosen where the labels are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.data.examples import Examples
from bitfit.data.task import Task
from bitfit.inference.metrics import known_rows

DEFAULT = 0.5
FEWEST = 10  # labels of all rows together: fewer cannot place a threshold
LEAST = 1e-6  # of a threshold; the greatest is 1 less that
DIGITS = 6

Floats = NDArray[np.float64]


def shares_of(logits: NDArray[Any]) -> Floats:
    """Each label's share of 0 to 1 by itself: they do not add up to 1."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, np.float64).clip(-700, 700))))


def fitted_threshold(gold: NDArray[Any], logits: NDArray[Any]) -> float:
    """The share from which on any label is answered, by the best micro F1 on these rows, (rows, labels).

    One for all labels: the best for each by its own F1 finds more of the rare and the hard ones, and its wrong answers
    cost one to five points of micro F1 on other rows (experiments/defaults).
    """
    numbers, there = np.nan_to_num(np.asarray(logits, np.float64)).ravel(), np.asarray(gold).ravel() > 0
    if there.sum() < FEWEST:
        return DEFAULT
    order = np.argsort(-numbers, kind="stable")
    ordered, right = numbers[order], np.cumsum(there[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + right[-1])
    f1[:-1][ordered[1:] == ordered[:-1]] = 0  # equal numbers stay together
    last = int(f1.argmax())
    below = ordered[last + 1] if last + 1 < len(ordered) else ordered[last] - 1
    share = float(shares_of((ordered[last] + below) / 2))
    return round(min(max(share, LEAST), 1 - LEAST), DIGITS)


def beyond(logits: NDArray[Any], thresholds: Sequence[float] | None) -> Floats:
    """How far each number, (rows, labels), lies above its label's threshold: from 0 on it is an answer."""
    numbers = np.nan_to_num(np.asarray(logits, np.float64))
    if thresholds is None:
        return numbers
    least = np.asarray(thresholds, np.float64)
    return numbers - np.log(least / (1 - least))


def scorable(task: Task, outputs: NDArray[Any], thresholds: Sequence[float] | None) -> NDArray[Any]:
    """A model's outputs in the form that `score` takes."""
    return beyond(outputs, thresholds) if task.kind == "labels" else outputs


def at_best(task: Task, examples: Examples, outputs: NDArray[Any]) -> NDArray[Any]:
    """The same with the thresholds that suit these very rows."""
    return scorable(task, outputs, thresholds_on(task, examples, outputs))


def thresholds_on(task: Task, examples: Examples, outputs: NDArray[Any]) -> tuple[float, ...] | None:
    """The thresholds of a task of labels on these rows; None of another."""
    if task.kind != "labels":
        return None
    known = known_rows(task, examples)
    return (fitted_threshold(np.asarray(examples.labels)[known], outputs[known]),) * len(task.labels)
