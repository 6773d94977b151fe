"""Thresholds of labels: each is the best for its label on the rows that it was chosen on, and decides the answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

import bitfit
from bitfit.data.examples import Examples
from bitfit.data.task import Task
from bitfit.errors import DeltaError, RequestError
from bitfit.inference.metrics import score
from bitfit.inference.predictor import Predictor
from bitfit.inference.report import LabelScores, label_report
from bitfit.inference.thresholds import DEFAULT, FEWEST, beyond, fitted_threshold, scorable, shares_of
from tests.training.trained import rows, trained

TASK = Task("t", "labels", labels=("a", "b", "c"), metrics=("micro_f1", "macro_f1", "mean_average_precision"))


def examples_of(there: np.ndarray) -> Examples:
    count = len(there)
    return Examples(np.zeros(count, np.int32), np.zeros(count, np.uint8), np.arange(count + 1), there.astype(np.int8))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.9), st.booleans())
def test_no_other_threshold_has_a_better_micro_f1(seed: int, share: float, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    there = rng.random((40, 2)) < share
    there[:FEWEST] = True
    logits = there + rng.normal(size=there.shape) * 2 - 1
    logits = np.round(logits) if coarse else logits
    threshold = fitted_threshold(there, logits)
    assert 0 < threshold < 1
    found = f1_score(there, beyond(logits, [threshold] * 2) >= 0, average="micro")
    others = [f1_score(there, logits >= least, average="micro") for least in np.unique(logits)]
    assert found == pytest.approx(max(others), abs=1e-6)


def test_few_labels_take_the_default() -> None:
    there = np.zeros((200, 3), bool)
    there[: FEWEST - 1, 0] = True
    assert fitted_threshold(there, there * 2.0 - 3) == DEFAULT
    there[FEWEST - 1, 1] = True
    assert fitted_threshold(there, there * 2.0 - 3) == pytest.approx(float(shares_of(np.array(-2.0))))


def test_a_person_may_choose_others() -> None:
    _, delta = trained("labels")
    before = delta.thresholds or ()
    changed = delta.with_thresholds({"glad": 0.9})
    assert changed.thresholds == (before[0], 0.9, before[2])
    with pytest.raises(RequestError, match=r"no label 'gld'\. Did you mean 'glad'"):
        delta.with_thresholds({"gld": 0.9})
    with pytest.raises(DeltaError, match="one number between 0 and 1 for each label"):
        delta.with_thresholds({"glad": 1.0})
    with pytest.raises(RequestError, match="no label 'glad'"):
        trained("class")[1].with_thresholds({"glad": 0.5})


def test_answers_are_the_shares_that_reach_their_threshold() -> None:
    logits = np.linspace(-4, 4, 33)[:, None] * [1, 1, 1]
    thresholds = (0.2, 0.5, 0.9)
    assert ((shares_of(logits) >= thresholds) == (beyond(logits, thresholds) >= 0)).all()
    assert (beyond(logits, None) == logits).all()
    assert (scorable(Task("n", "number"), logits, None) == logits).all()


def test_scores_are_those_of_sklearn() -> None:
    rng = np.random.default_rng(1)
    there = rng.random((60, 3)) < [0.5, 0.2, 0.1]
    numbers = there + rng.normal(size=there.shape) - 0.5
    found = score(TASK, examples_of(there), numbers)
    assert found == pytest.approx(
        {
            "micro_f1": f1_score(there, numbers >= 0, average="micro"),
            "macro_f1": f1_score(there, numbers >= 0, average="macro"),
            "mean_average_precision": average_precision_score(there, numbers, average="macro"),
        }
    )


def test_a_single_label_is_scored_as_one() -> None:
    task = replace(TASK, labels=("a",))
    there = np.array([[1], [0], [0], [1]])
    found = score(task, examples_of(there), np.array([[1.0], [-1.0], [1.0], [-1.0]]))
    assert found == {"micro_f1": 0.5, "macro_f1": 0.5, "mean_average_precision": pytest.approx(0.5)}
    report = label_report(task.labels, there > 0, np.array([[1.0], [-1.0], [1.0], [-1.0]]), None)
    assert report.labels == (LabelScores("a", 0.5, 0.5, 0.5, 2, DEFAULT, report.labels[0].average_precision),)


def test_a_label_that_is_nowhere_counts_for_nothing() -> None:
    there = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    assert score(TASK, examples_of(there), np.where(there, 1.0, -1.0)) == dict.fromkeys(TASK.metrics, 1.0)
    assert score(TASK, examples_of(there * 0), np.full(there.shape, -1.0)) == dict.fromkeys(TASK.metrics, 0.0)


def test_training_keeps_them_and_predict_uses_them() -> None:
    backbone, delta = trained("labels")
    assert delta.thresholds is not None
    assert len(delta.thresholds) == 3
    lowest = replace(delta, settings={**delta.settings, "calibration": {"thresholds": [1e-4, 0.5, 1 - 1e-4]}})
    for answer in Predictor(backbone, lowest, "fp32")(rows("labels", 12)["text"]):
        assert "sad" in answer.value
        assert "calm" not in answer.value
        assert answer.scores is not None
        assert ("glad" in answer.value) == (answer.scores["glad"] >= 0.5)
        assert answer.value == sorted(answer.value, key=lambda label: -answer.scores[label])


def test_what_training_reports_is_what_evaluation_finds() -> None:
    backbone, delta = trained("labels")
    data = [
        {"text": text, "label": [TASKS_LABELS[at] for at in labels]}
        for text, labels in zip(*rows("labels", 8).values(), strict=True)
    ]
    found = bitfit.evaluation(backbone, delta, data, precision="fp32")
    assert dict(found.scores) == pytest.approx(dict(delta.scores["validation"]))
    report = found.report.to_json()  # type: ignore[union-attr]
    assert [one["label"] for one in report["labels"]] == list(TASKS_LABELS)
    assert [one["threshold"] for one in report["labels"]] == list(delta.thresholds or ())
    assert [one["support"] for one in report["labels"]] == [4, 4, 4]
    assert report["micro_f1"] == pytest.approx(found.scores["micro_f1"])
    assert found.rows is not None
    assert found.rows.column_names == ["text", "label", "answer", "error"]
    errors = found.hardest()["error"].to_pylist()
    assert errors == sorted(errors, reverse=True)
    exact = np.mean([set(row["label"]) == set(row["answer"]) for row in found.rows.to_pylist()])
    assert report["exact_match"] == pytest.approx(float(exact))


TASKS_LABELS = ("sad", "glad", "calm")


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 0.5, 1.0], [0, 0.5, 0.5], "0.5", [True, 0.5, 0.5]])
def test_thresholds_that_do_not_fit_are_refused(thresholds: Any) -> None:
    _, delta = trained("labels")
    with pytest.raises(DeltaError, match="one number between 0 and 1 for each label"):
        replace(delta, settings={"calibration": {"thresholds": thresholds}})


def test_a_task_of_classes_has_none() -> None:
    _, delta = trained("class")
    with pytest.raises(DeltaError, match="one number between 0 and 1 for each label"):
        replace(delta, settings={"calibration": {"thresholds": [0.5, 0.5, 0.5]}})
