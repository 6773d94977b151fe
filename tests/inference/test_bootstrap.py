"""Resampled scores are the scores of the resampled rows, for every kind and metric."""

import numpy as np
import pytest

from bitfit.data.examples import Examples
from bitfit.data.task import Metric, Task
from bitfit.inference.bootstrap import DRAWS, Interval, draws, resampled
from bitfit.inference.evaluation import ScoredRows, evaluation_of
from bitfit.inference.metrics import score

NAMES = {"class": ("no", "yes", "perhaps"), "tags": ("O", "B-x", "I-x"), "number": (), "labels": ("a", "b", "c")}
ROWS = 40


def some(kind: str, seed: int = 3) -> tuple[Examples, np.ndarray]:
    """Labels, and answers that are often right; every tenth has no label."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, ROWS) if kind == "tags" else np.ones(ROWS, np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    count = int(offsets[-1])
    if kind == "number":
        labels = np.round(rng.normal(size=count), 1).astype(np.float32)
        return of(labels, offsets), np.round(labels + rng.normal(size=count), 1).astype(np.float32)
    if kind == "labels":
        there = (rng.random((count, 3)) < [0.5, 0.3, 0.1]).astype(np.int8)
        there[::10] = -1
        return of(there, offsets), np.round(there - 0.5 + rng.normal(size=there.shape), 1)  # some are equal
    labels = rng.integers(0, 3, count)
    answers = np.where(rng.random(count) < 0.6, labels, rng.integers(0, 3, count))
    labels[::10] = -1 if kind == "class" else -100
    return of(labels, offsets), np.eye(3, dtype=np.float32)[answers] if kind == "class" else answers


def of(labels: np.ndarray, offsets: np.ndarray) -> Examples:
    return Examples(np.zeros(offsets[-1], np.int32), np.zeros(offsets[-1], np.uint8), offsets, labels)


def repeated(examples: Examples, outputs: np.ndarray, times: np.ndarray) -> tuple[Examples, np.ndarray]:
    """Each labelled row as often as it was drawn."""
    there = [i for i in range(len(examples)) if (examples.labels[slice(*examples.offsets[i : i + 2])] >= 0).any()]
    there = there if examples.labels.dtype != np.float32 else list(range(len(examples)))
    which = np.repeat(there, times.astype(int))
    pieces = examples.tokens_of(which)
    offsets = np.concatenate([[0], np.cumsum(examples.lengths[which])])
    return of(examples.labels[pieces], offsets), outputs[pieces]


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("class", "accuracy"),
        ("class", "macro_f1"),
        ("class", "matthews_correlation"),
        ("tags", "accuracy"),
        ("tags", "macro_f1"),
        ("tags", "entity_f1"),
        ("labels", "micro_f1"),
        ("labels", "macro_f1"),
        ("labels", "mean_average_precision"),
        ("number", "spearman"),
        ("number", "pearson"),
        ("number", "mean_squared_error"),
    ],
)
def test_a_draw_scores_as_its_rows_do(kind: str, metric: Metric) -> None:
    examples, outputs = some(kind)
    task = Task("t", kind, ("text",), "label", NAMES[kind], (metric,))
    found = resampled(task, examples, outputs)
    assert found.shape == (DRAWS,)
    labelled = examples.labels if kind == "number" else np.where(examples.labels >= 0, 1, 0)
    labelled = labelled[:, 0] if kind == "labels" else labelled
    units = ROWS if kind == "number" else int((np.add.reduceat(labelled, examples.offsets[:-1]) > 0).sum())
    times = np.concatenate(list(draws(units)))
    for i in (0, 1, 2, DRAWS - 1):
        assert found[i] == pytest.approx(score(task, *repeated(examples, outputs, times[i]))[metric])


def test_f1_is_that_of_the_second_class() -> None:
    labels, answers = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1])
    examples, outputs = of(labels, np.arange(6)), np.eye(2, dtype=np.float32)[answers]
    task = Task("t", labels=("no", "yes"), metrics=("f1",))
    times = np.concatenate(list(draws(5)))
    for i in range(5):
        assert resampled(task, examples, outputs)[i] == pytest.approx(
            score(task, *repeated(examples, outputs, times[i]))["f1"]
        )


def test_the_same_rows_have_the_same_interval_and_more_rows_a_narrower_one() -> None:
    task = Task("t", labels=NAMES["class"])
    examples, outputs = some("class")
    one, again = (Interval.of(resampled(task, examples, outputs)) for _ in range(2))
    assert one == again
    assert one.low < score(task, examples, outputs)["accuracy"] < one.high
    many = Examples(*(np.tile(part, 9) for part in (examples.ids, examples.types)), np.arange(9 * ROWS + 1),
                    np.tile(examples.labels, 9))  # fmt: skip
    narrow = Interval.of(resampled(task, many, np.tile(outputs, (9, 1))))
    assert narrow.high - narrow.low < (one.high - one.low) / 2


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    task, inside = Task("t", labels=("no", "yes")), 0
    for seed in range(100):
        right = np.random.default_rng(seed).random(300) < 0.8
        examples = of(np.ones(300, np.int64), np.arange(301))
        interval = Interval.of(resampled(task, examples, np.eye(2, dtype=np.float32)[right.astype(int)]))
        inside += interval.low <= 0.8 <= interval.high
    assert 88 <= inside <= 99


def test_two_rows_that_are_both_right_are_no_certainty() -> None:
    one_in_twenty = 0.05**0.5  # both right, if each is so often
    both = Interval.of(np.ones(DRAWS), 2)
    assert (both.low, both.high) == (pytest.approx(one_in_twenty), 1.0)
    neither = Interval.of(np.zeros(DRAWS), 2)
    assert (neither.low, neither.high) == (0.0, pytest.approx(1 - one_in_twenty))
    assert Interval.of(np.ones(DRAWS), 3000).low == pytest.approx(1 - 3 / 3000, abs=1e-5)  # the rule of three
    assert Interval.of(np.full(DRAWS, 0.5), 2) == Interval(0.5, 0.5)
    task, labels = Task("t", labels=("no", "yes")), np.array([0, 1])
    few = ScoredRows(task, "validation", of(labels, np.arange(3)), np.eye(2, dtype=np.float32)[labels], "2")
    assert evaluation_of(few, None).interval.low == pytest.approx(one_in_twenty)
