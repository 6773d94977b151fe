"""How sure a score is: the scores of many draws of the same rows, with replacement.

What is drawn is a text, for tags a sentence, for spans a question. Draws are the same for every delta that is scored on
the same rows, so two deltas' scores of a draw can be compared.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.data.encode.spans import best_spans
from bitfit.data.examples import Examples
from bitfit.data.task import Metric, Task
from bitfit.inference.metrics import exact_match, known_rows, token_f1

DRAWS = 1000
LEVEL = 0.95  # of an interval
SEED = 0
_AT_ONCE = 2_000_000  # numbers of a block of draws

Floats = NDArray[np.float64]
# (draws, units), how often each text, sentence or question was drawn, to (draws,) scores
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Interval:
    """Where 95 % of the resampled scores lie."""

    low: float
    high: float

    @classmethod
    def of(cls, scores: Floats, units: int = 0) -> "Interval":
        """The middle 95 % of resampled scores.

        Where all `units` that can be drawn are right, every draw is, however few they are. Then the interval ends where
        as many would all be right one time in twenty; likewise where all are wrong.
        """
        low, high = (float(end) for end in np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        if units and low == high == 1.0:
            low = (1 - LEVEL) ** (1 / units)
        if units and low == high == 0.0:
            high = 1 - (1 - LEVEL) ** (1 / units)
        return cls(low, high)

    def to_json(self) -> list[float]:
        """Its two ends."""
        return [self.low, self.high]


def resampled(task: Task, examples: Examples, outputs: NDArray[Any]) -> Floats:
    """The main score of each of 1,000 draws; outputs as `score` takes them."""
    units, statistic = _statistic(task, examples, np.asarray(outputs))
    return np.concatenate([statistic(block) for block in draws(units)])


def draws(units: int) -> Iterator[Floats]:
    """How often each unit was drawn, in blocks of draws."""
    rng = np.random.default_rng(SEED)
    block = max(1, _AT_ONCE // units)
    for start in range(0, DRAWS, block):
        count = min(block, DRAWS - start)
        drawn = rng.integers(units, size=(count, units)) + units * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)


def _statistic(task: Task, examples: Examples, outputs: NDArray[Any]) -> tuple[int, Statistic]:
    """The number of units, and the main metric as a function of how often each was drawn."""
    if task.kind == "span":
        values = _span_values(task.metric, examples, outputs)
        return len(values), _mean(values)
    known = known_rows(task, examples)
    gold = np.asarray(examples.labels)[known]
    if task.kind == "number":
        return len(gold), _number_statistic(task.metric, gold.astype(np.float64), outputs[known].astype(np.float64))
    if task.kind == "labels":
        return len(gold), _labels_statistic(task.metric, gold > 0, outputs[known])
    if task.kind == "class":
        answers, unit = outputs[known].argmax(axis=1), np.arange(len(gold))
    else:
        answers = outputs[known]
        unit = np.unique(np.repeat(np.arange(len(examples)), examples.lengths)[known], return_inverse=True)[1]
    if task.metric == "entity_f1":
        counts = _entity_counts(task, gold, answers, unit)
        return len(counts[0]), _of_counts(counts, _micro_f1)
    units = int(unit[-1]) + 1
    return units, _of_counts(_class_counts(gold, answers, unit, len(task.labels)), _CLASS_SCORES[task.metric])


def _mean(values: Floats) -> Statistic:
    return lambda times: times @ values / len(values)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


# ---------------------------------------------------------------------- of counts: right answers, answers, labels

Counts = tuple[Floats, Floats, Floats]  # each (units, classes); of draws (draws, classes)


def _of_counts(counts: Counts, score: Callable[[Floats, Floats, Floats], Floats]) -> Statistic:
    right, answered, labelled = counts
    return lambda times: score(times @ right, times @ answered, times @ labelled)


def _class_counts(gold: NDArray[Any], answers: NDArray[Any], unit: NDArray[Any], classes: int) -> Counts:
    """How often each class is a right answer, an answer and a label in each unit."""

    def counted(values: NDArray[Any], units: NDArray[Any]) -> Floats:
        cells = np.bincount(units * classes + values, minlength=(int(unit[-1]) + 1) * classes)
        return cells.reshape(-1, classes).astype(np.float64)

    right = gold == answers
    return counted(gold[right], unit[right]), counted(answers, unit), counted(gold, unit)


def _entity_counts(task: Task, gold: NDArray[Any], answers: NDArray[Any], unit: NDArray[Any]) -> Counts:
    """The same of entities, all types together."""
    from seqeval.metrics.sequence_labeling import get_entities

    edges = np.flatnonzero(np.diff(unit)) + 1
    names = np.array(task.labels, object)
    counts = [
        (len(wanted & found), len(found), len(wanted))
        for wanted, found in (
            (set(get_entities(list(names[one]))), set(get_entities(list(names[other]))))
            for one, other in zip(np.split(gold, edges), np.split(answers, edges), strict=True)
        )
    ]
    right, answered, labelled = np.array(counts, np.float64).T[:, :, None]
    return right, answered, labelled


def _accuracy(right: Floats, answered: Floats, labelled: Floats) -> Floats:
    return _ratio(right.sum(axis=1), labelled.sum(axis=1))


def _micro_f1(right: Floats, answered: Floats, labelled: Floats) -> Floats:
    return _ratio(2 * right.sum(axis=1), (answered + labelled).sum(axis=1))


def _f1(right: Floats, answered: Floats, labelled: Floats) -> Floats:
    """Of the second class."""
    return _ratio(2 * right[:, 1], answered[:, 1] + labelled[:, 1])


def _macro_f1(right: Floats, answered: Floats, labelled: Floats) -> Floats:
    """The mean over the classes that are there."""
    there = answered + labelled > 0
    return _ratio(_ratio(2 * right, answered + labelled).sum(axis=1), there.sum(axis=1).astype(np.float64))


def _matthews(right: Floats, answered: Floats, labelled: Floats) -> Floats:
    total = labelled.sum(axis=1)
    covariance = right.sum(axis=1) * total - (answered * labelled).sum(axis=1)
    spread = (total**2 - (answered**2).sum(axis=1)) * (total**2 - (labelled**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(spread))


_CLASS_SCORES: Mapping[Metric, Callable[[Floats, Floats, Floats], Floats]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews,
}


# ---------------------------------------------------------------------- of any number of labels


def _labels_statistic(metric: Metric, there: NDArray[np.bool_], numbers: Floats) -> Statistic:
    """`numbers` (rows, labels) are answers from 0 on."""
    if metric == "mean_average_precision":
        orders = [_Order.of(one, values) for one, values in zip(there.T, numbers.T, strict=True) if one.any()]
        return lambda times: _mean_there([order.precision(times) for order in orders])
    answered = numbers >= 0
    counts = tuple(values.astype(np.float64) for values in (there & answered, answered, there))
    return _of_counts((counts[0], counts[1], counts[2]), {"micro_f1": _micro_f1, "macro_f1": _macro_f1}[metric])


@dataclass(frozen=True)
class _Order:
    """The rows of one label by its number, the greatest first."""

    rows: NDArray[np.int64]
    there: Floats  # 1 where a row has the label
    ends: NDArray[np.int64]  # of each row, where those with the same number end

    @classmethod
    def of(cls, there: NDArray[np.bool_], numbers: Floats) -> "_Order":
        rows = np.argsort(-numbers, kind="stable")
        ordered = -numbers[rows]
        return cls(rows, there[rows].astype(np.float64), np.searchsorted(ordered, ordered, side="right") - 1)

    def precision(self, times: Floats) -> Floats:
        """The average precision of each draw, NaN where no row of it has the label."""
        drawn = times[:, self.rows]
        right, all_ = np.cumsum(drawn * self.there, axis=1), np.cumsum(drawn, axis=1)
        at_ends = _ratio(right, all_)[:, self.ends]
        total = right[:, -1]
        sums = (drawn * self.there * at_ends).sum(axis=1)
        return np.where(total > 0, sums / np.maximum(total, 1), np.nan)


def _mean_there(values: list[Floats]) -> Floats:
    """The mean of those that are numbers; 0 where none is."""
    each = np.array(values)
    there = ~np.isnan(each)
    return _ratio(np.where(there, each, 0).sum(axis=0), there.sum(axis=0).astype(np.float64))


# ---------------------------------------------------------------------- of numbers and spans


def _number_statistic(metric: Metric, gold: Floats, answers: Floats) -> Statistic:
    if metric == "mean_squared_error":
        return _mean((gold - answers) ** 2)
    if metric == "pearson":
        return lambda times: _correlation(times, gold[None], answers[None])
    return lambda times: _correlation(times, _ranks(times, gold), _ranks(times, answers))


def _correlation(times: Floats, one: Floats, other: Floats) -> Floats:
    """Pearson's r of rows that count `times` each; 0 where either side is constant."""
    total = times.sum(axis=1, keepdims=True)
    left = one - (times * one).sum(axis=1, keepdims=True) / total
    right = other - (times * other).sum(axis=1, keepdims=True) / total
    spread = (times * left**2).sum(axis=1) * (times * right**2).sum(axis=1)
    return _ratio((times * left * right).sum(axis=1), np.sqrt(spread))


def _ranks(times: Floats, values: Floats) -> Floats:
    """(draws, values) the middle rank of each value among those drawn."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(times[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]


def _span_values(metric: Metric, examples: Examples, outputs: NDArray[Any]) -> Floats:
    """The main metric of each question."""
    gold = [row["text"] for row in examples.source["rows"][examples.source["answers"]].to_pylist()]
    best = [spans[0].text if spans else "" for spans in best_spans(examples, outputs, n_best=1)]
    one = exact_match if metric == "exact_match" else token_f1
    return np.array([one(*pair) for pair in zip(best, gold, strict=True)])
