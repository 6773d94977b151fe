"""The figures that a delta stores are those of its answers, to four digits."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfit import Delta, Slot, Task
from bitfit.inference.evaluation import Evaluation, ScoredRows, evaluation_of
from bitfit.inference.stored import MOST_CELLS, stored_evaluation, to_settings
from tests.training.tiny_task import tiny_data


def evaluated(classes: int, rows: int) -> tuple[Task, Evaluation]:
    """Answers that are often right."""
    rng = np.random.default_rng(0)
    task = Task("mood", labels=[f"label {number}" for number in range(classes)])
    labels = rng.integers(classes, size=rows)
    logits = rng.normal(size=(rows, classes)) + 2 * np.eye(classes)[labels]
    examples = replace(tiny_data(validation=rows).splits["validation"], labels=labels)
    return task, evaluation_of(ScoredRows(task, "validation", examples, logits, f"{rows:,}"), 1.2)


def delta_of(task: Task, scores: Any, document: Any) -> Delta:
    slot, values = Slot("classifier.bias", (2,), None, in_head=True), {"classifier.bias": np.zeros(2, np.float32)}
    settings = {"validation": document, "calibration": {"temperature": 1.2}, "measured_on": {"validation": 300}}
    made = Delta("model", f"sha256:{'0' * 64}", "bitfit", "full", (slot,), values, task, scores, settings)
    return Delta.from_bytes(made.to_bytes())


@pytest.mark.parametrize("classes", [2, 5])
def test_the_figures_come_back(classes: int) -> None:
    task, found = evaluated(classes, 300)
    stored = stored_evaluation(delta_of(task, {"validation": dict(found.scores)}, to_settings(found)))
    assert stored is not None
    assert (stored.rows, stored.resampled, stored.measured_on) == (None, None, "300")
    ours, theirs = found.to_json(), stored.to_json()
    assert ours["report"]["confusion"] == theirs["report"]["confusion"]
    assert ours["report"]["classes"] == theirs["report"]["classes"]
    assert theirs["interval"] == pytest.approx(ours["interval"], abs=1e-4)
    for name in ("roc_auc", "average_precision", "macro_f1"):
        assert theirs["report"][name] == pytest.approx(ours["report"][name], abs=1e-4)
    for name in ("expected_error_before", "expected_error_after", "expected_error_by_chance"):
        assert theirs["calibration"][name] == pytest.approx(ours["calibration"][name], abs=2e-4)


def test_little_room_is_taken() -> None:
    assert len(json.dumps(to_settings(evaluated(2, 1000)[1]))) < 600
    task, found = evaluated(150, 20_000)
    assert np.count_nonzero(found.report.confusion) > MOST_CELLS  # type: ignore[union-attr]
    stored = stored_evaluation(delta_of(task, {"validation": dict(found.scores)}, to_settings(found)))
    assert stored is not None
    assert stored.report is None
    assert stored.calibration is not None


def several() -> tuple[Task, Evaluation]:
    """Answers of three labels, of which the last is nowhere."""
    rng, task = np.random.default_rng(0), Task("moods", "labels", labels=("sad", "glad", "calm"))
    there = (rng.random((60, 3)) < [0.5, 0.2, 0]).astype(np.int8)
    examples = replace(tiny_data(validation=60).splits["validation"], labels=there)
    outputs = there + rng.normal(size=there.shape) - 0.5
    return task, evaluation_of(ScoredRows(task, "validation", examples, outputs, "60"), None)


def test_the_figures_of_labels_come_back() -> None:
    task, found = several()
    stored = stored_evaluation(delta_of(task, {"validation": dict(found.scores)}, to_settings(found)))
    assert stored is not None
    assert found.report is not None
    assert stored.report is not None
    ours, theirs = found.report.to_json(), stored.report.to_json()
    for one, other in zip(ours.pop("labels"), theirs.pop("labels"), strict=True):
        assert other == {
            name: value if value is None else pytest.approx(value, abs=1e-4) for name, value in one.items()
        }
    assert theirs == pytest.approx(ours, abs=1e-4)
    wrong = {**to_settings(found), "labels": [[0.5, 0.5, 0.5, 1.5, None]] * 3}
    without = stored_evaluation(delta_of(task, {"validation": dict(found.scores)}, wrong))
    assert without is not None
    assert without.report is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
NAMES = st.sampled_from(["interval", "cells", "areas", "bins", "error_before", "measured_on"])


@given(
    st.sampled_from(["labels", "of_all"]),
    JSON | st.lists(st.lists(JSON, min_size=5, max_size=5), min_size=3, max_size=3),
)
def test_what_another_program_wrote_of_labels_is_passed_over(name: str, value: Any) -> None:
    task, found = several()
    stored = stored_evaluation(delta_of(task, {"validation": dict(found.scores)}, {**to_settings(found), name: value}))
    assert stored is not None
    json.dumps(stored.to_json(), allow_nan=False)


@given(NAMES, JSON)
def test_what_another_program_wrote_there_is_passed_over(name: str, value: Any) -> None:
    task, found = evaluated(3, 60)
    delta = delta_of(task, {"validation": dict(found.scores)}, {**to_settings(found), name: value})
    if name == "measured_on":
        delta = replace(delta, settings={**delta.settings, name: {"validation": value}})
    stored = stored_evaluation(delta)
    if stored is not None:
        json.dumps(stored.to_json(), allow_nan=False)


def test_a_file_without_them_has_none() -> None:
    task, found = evaluated(3, 60)
    scores = {"validation": dict(found.scores)}
    assert stored_evaluation(delta_of(task, {}, to_settings(found))) is None
    assert stored_evaluation(delta_of(task, scores, {})) is None
    assert stored_evaluation(delta_of(task, scores, [])) is None
    beyond = stored_evaluation(delta_of(task, scores, {**to_settings(found), "cells": [0, 3, 1]}))
    assert beyond is not None
    assert beyond.report is None


def test_a_matrix_of_a_file_does_not_fill_the_memory() -> None:
    task = Task("mood", labels=[f"label {number}" for number in range(100_000)])
    stored = stored_evaluation(
        delta_of(task, {"validation": {"accuracy": 0.5}}, {"interval": [0, 1], "cells": [0, 0, 1]})
    )
    assert stored is not None
    assert stored.report is None
