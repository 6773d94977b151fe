"""Each finding is raised by what it is about, and by nothing like it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitfit
from bitfit import Examples, Finding, Slot, Task, TaskData, TrainConfig
from bitfit.data.task import Metric
from bitfit.inference.bootstrap import Interval, resampled
from bitfit.methods.method import Method
from bitfit.training import findings
from bitfit.training.findings import (
    CODES,
    absent_labels,
    baseline_findings,
    data_findings,
    grid_findings,
    interval_findings,
    score_findings,
    setting_findings,
    unlikely_labels,
)
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
MOOD = Task("mood", labels=("sad", "glad", "calm"), max_length=8)


def codes(found: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in found]


def texts(labels: Sequence[int], *, first: int = 0, truncated: int = 0) -> Examples:
    """A text of two pieces for each label, each text another one; numbered from `first`."""
    count = len(labels)
    ids = np.stack([np.full(count, 7), np.arange(first, first + count)], axis=1).ravel().astype(np.int32)
    offsets = np.arange(count + 1, dtype=np.int64) * 2
    return Examples(ids, np.zeros(2 * count, np.uint8), offsets, np.array(labels, np.int64), truncated)


def data(train: Examples, **others: Examples) -> TaskData:
    return TaskData(MOOD, {"train": train, **others})


def logits(answers: Sequence[int], sure: float = 2.0) -> Any:
    return np.eye(3)[np.array(answers)] * sure


def history(*scores: float, metric: str = "accuracy") -> list[dict[str, Any]]:
    return [{"epoch": number, "validation": {metric: score}} for number, score in enumerate(scores, start=1)]


ENOUGH = [0, 1, 2] * 10


def test_the_page_has_a_paragraph_for_each_code_and_its_severity() -> None:
    sections = dict(re.findall(r"^## (BF\d{3})\n\n(Warning|Info): ", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {code: word.lower() for code, word in sections.items()} == {
        code: severity for code, (severity, _) in CODES.items()
    }
    assert list(CODES) == sorted(CODES)


@pytest.mark.parametrize(("own", "raised"), [(0.7, ["BF001"]), (0.8, []), (0.9, []), (None, [])])
def test_a_baseline_is_better(own: float | None, raised: list[str]) -> None:
    assert codes(baseline_findings(MOOD, "bitfit", own, {"frozen probe": 0.8})) == raised


def test_the_best_rate_is_at_the_edge_of_its_grid() -> None:
    configs = [TrainConfig(learning_rate=rate) for rate in (1e-3, 2e-3, 4e-3)]
    [found] = grid_findings(configs, [0.7, 0.8, 0.9], 2, MOOD)
    assert str(found) == (
        "BF002 info: the best learning rate, 0.004, is the highest of the 3 tried. Add rates beyond it."
    )
    assert codes(grid_findings(configs, [0.9, 0.8, 0.7], 0, MOOD)) == ["BF002"]
    assert grid_findings(configs, [0.7, 0.8, 0.7], 1, MOOD) == []
    assert grid_findings(configs, [0.7, 0.8, 0.9], 2, MOOD, raced=True) == []
    assert grid_findings(configs[:1], [0.7], 0, MOOD) == []
    assert grid_findings(configs, [None, None, None], 0, MOOD) == []


def test_seeds_disagree() -> None:
    configs = [TrainConfig(learning_rate=1e-3, seed=seed) for seed in range(3)]
    [found] = grid_findings(configs, [0.8, 0.74, 0.78], 0, MOOD)
    assert found.code == "BF011"
    assert found.text == "3 seeds with learning rate 0.001 are 6.0 points of accuracy apart on validation"
    assert grid_findings(configs, [0.8, 0.76, 0.78], 0, MOOD) == []
    apart = [*configs[:1], TrainConfig(learning_rate=2e-3), TrainConfig(learning_rate=5e-4)]
    assert grid_findings(apart, [0.8, 0.5, 0.5], 0, MOOD) == []


@pytest.mark.parametrize(
    ("scores", "raised"),
    [((0.5, 0.6, 0.8), True), ((0.5, 0.79, 0.8), False), ((0.5, 0.8, 0.7), False), ((0.8,), False)],
)
def test_the_last_epoch_is_the_best_by_more_than_noise(scores: tuple[float, ...], raised: bool) -> None:
    config = TrainConfig(epochs=len(scores))
    found = score_findings(MOOD, config, history(*scores), texts(ENOUGH * 20), logits(ENOUGH * 20))
    assert codes(found) == (["BF003"] if raised else [])


def test_a_run_that_patience_ended_early_does_not_improve() -> None:
    found = score_findings(MOOD, TrainConfig(epochs=9), history(0.1, 0.9), texts(ENOUGH * 20), logits(ENOUGH * 20))
    assert found == []


def test_validation_is_too_small_to_tell() -> None:
    labels = ENOUGH * 10
    half = [label if number % 2 else (label + 1) % 3 for number, label in enumerate(labels)]
    [found] = interval_findings(MOOD, 300, Interval.of(resampled(MOOD, texts(labels), logits(half))))
    assert found.code == "BF004"
    assert re.fullmatch(
        r"300 rows of validation are few: the true accuracy may lie anywhere between 4\d\.\d and 5\d\.\d", found.text
    )
    more = Interval.of(resampled(MOOD, texts(labels * 10), logits(half * 10)))
    assert interval_findings(MOOD, 3000, more) == []


def test_an_error_in_the_units_of_the_answers_has_no_points() -> None:
    metrics: tuple[Metric, ...] = ("mean_squared_error",)
    task = Task("rating", "number", metrics=metrics)
    few = replace(texts([0, 1, 2]), labels=np.array([0, 1, 2], np.float32))
    scores = history(9.0, 1.0, metric=metrics[0])
    assert score_findings(task, TrainConfig(epochs=2), scores, few, np.array([2.0, 0.0, 1.0])) == []
    assert interval_findings(task, 3, Interval(1.0, 9.0)) == []


def test_a_class_has_few_examples() -> None:
    [found] = data_findings(data(texts(ENOUGH[:29])))
    assert found.code == "BF005"
    assert found.text == "the class 'calm' has 9 training examples"
    [several] = data_findings(data(texts([0, 0, 1, *[2] * 10])))
    assert several.text == "the classes 'glad', 'sad' have from 1 to 2 training examples"
    assert data_findings(data(texts(ENOUGH))) == []


def test_a_class_is_never_predicted_or_one_always() -> None:
    labels = ENOUGH * 100

    def found(answers: Sequence[int]) -> list[Finding]:
        return score_findings(MOOD, TrainConfig(epochs=1), history(0.5), texts(labels), logits(answers))

    [never] = found([min(label, 1) for label in labels])
    assert (never.code, never.text) == ("BF006", "the class 'calm' is never predicted on validation")
    [always] = found([1] * len(labels))
    assert (always.code, always.text) == ("BF007", "every text of validation is answered 'glad'")
    assert found(labels) == []
    same = texts([1] * 300)
    assert score_findings(MOOD, TrainConfig(epochs=1), history(1.0), same, logits([1] * 300)) == []


def test_many_texts_are_cut() -> None:
    [found] = data_findings(data(texts(ENOUGH, truncated=2)))
    assert found.code == "BF008"
    assert found.text == "2 of 30 texts (7%) are longer than 8 tokens and were cut there"
    assert data_findings(data(texts(ENOUGH, truncated=1))) == []


def test_splits_share_texts() -> None:
    splits = {"validation": texts(ENOUGH, first=25), "test": texts(ENOUGH, first=100)}
    [found] = data_findings(data(texts(ENOUGH), **splits))
    assert (found.code, found.text) == ("BF009", "5 of 30 texts of validation are in train too")
    assert data_findings(data(texts(ENOUGH), test=splits["test"])) == []


def test_a_text_has_two_labels() -> None:
    other = texts([*ENOUGH, 2, 1])
    other.ids[-4:] = [7, 29, 7, 0]  # as the last text, with its label, and as the first one, with another
    [found] = data_findings(data(other))
    assert found.code == "BF010"
    assert found.text == (
        "train has the same text with different labels (1 such text): text 1 is labelled 'sad' and 'glad'"
    )
    unknown = replace(other, labels=np.array([*ENOUGH, 2, -1]))
    assert data_findings(data(unknown)) == []


@pytest.mark.parametrize(
    ("method", "inert", "raised"),
    [
        ("bitfit[b_k]", True, True),
        ("bitfit[key,b_q]", True, True),
        ("bitfit[b_k]", False, False),
        ("bitfit", True, False),
    ],
)
def test_b_k_is_named_where_it_cannot_move(method: str, inert: bool, raised: bool) -> None:
    slot = Slot("key.bias", (4,), None, inert=inert)
    assert codes(setting_findings(TrainConfig(), Method.parse(method), [slot])) == (["BF012"] if raised else [])


@pytest.mark.parametrize(
    ("precision", "fast", "raised"), [("bf16", False, True), ("bf16", True, False), ("auto", False, False)]
)
def test_bf16_is_asked_for_where_it_is_slow(
    precision: Any, fast: bool, raised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "fast_bf16", lambda: fast)
    config = TrainConfig(precision=precision, device="cpu")
    assert codes(setting_findings(config, Method.parse("bitfit"), [])) == (["BF013"] if raised else [])


def test_labels_look_wrong() -> None:
    answers = [(label + 1) % 3 if number in (3, 5) else label for number, label in enumerate(ENOUGH)]
    outputs = logits(answers, sure=5.0)
    outputs[5] *= 2
    [found] = unlikely_labels(MOOD, texts(ENOUGH), outputs, 1.0)
    assert found.code == "BF014"
    assert found.text == (
        "labels of validation look wrong: text 6 is labelled 'calm' and answered 'sad' (1.000); "
        "text 4 is labelled 'sad' and answered 'glad' (0.987)"
    )
    assert unlikely_labels(MOOD, texts(ENOUGH), outputs, 5.0) == []  # not sure once they are calibrated
    assert unlikely_labels(MOOD, texts(ENOUGH), logits(ENOUGH, 9.0), 1.0) == []


def test_a_run_has_them_in_its_delta_and_its_json() -> None:
    configs = [TrainConfig(learning_rate=rate, epochs=1, precision="fp32") for rate in (1e-3, 1e-6)]
    runs = bitfit.train_rows(tiny_backbone("bert"), tiny_data(), "bitfit[b_k]", configs)
    best = runs[bitfit.best_run(runs)]
    assert {"BF002", "BF004", "BF012"} <= set(codes(best.findings))
    assert best.to_json()["findings"] == best.delta.settings["findings"] == [one.to_json() for one in best.findings]
    assert Finding.all_of(best.delta.settings) == best.findings
    again = bitfit.train_rows(tiny_backbone("bert"), tiny_data(), "bitfit[b_k]", configs)
    assert again[0].delta.to_bytes() == runs[0].delta.to_bytes()


def test_what_is_no_finding_is_passed_over() -> None:
    assert Finding.all_of({"findings": "BF001"}) == Finding.all_of({"findings": [{"code": "BF001"}, 3]}) == ()


# ---------------------------------------------------------------------- any number of labels

MOODS = Task("moods", "labels", labels=("sad", "glad", "calm"), max_length=8)
THERE = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]] * 10, np.int8)


def labelled(there: Any, *, first: int = 0) -> Examples:
    return replace(texts([0] * len(there), first=first), labels=np.array(there, np.int8))


def of_validation(answered: Any) -> list[str]:
    found = score_findings(
        MOODS, TrainConfig(epochs=1), history(0.9, metric="micro_f1"), labelled(THERE), answered - 0.5
    )
    return [str(finding) for finding in found]


def test_a_label_is_never_predicted() -> None:
    assert of_validation(THERE) == []
    assert of_validation(THERE * [1, 1, 0])[0].startswith("BF006 warning: the label 'calm' is never predicted")
    assert of_validation(THERE * [1, 0, 0])[0].startswith("BF006 warning: the labels 'glad', 'calm' are never")


def test_every_text_gets_the_same_labels() -> None:
    [found] = of_validation(np.ones_like(THERE) * [1, 1, 0])
    assert found.startswith("BF007 warning: every text of validation is answered 'sad' and 'glad'.")
    [found] = of_validation(np.zeros_like(THERE))
    assert found.startswith("BF007 warning: every text of validation is answered with no label.")


def test_a_label_has_few_examples() -> None:
    rare = np.concatenate([THERE, THERE])
    rare[:, 2] = 0
    rare[:3, 2] = 1
    [found] = data_findings(TaskData(MOODS, {"train": labelled(rare)}))
    assert (found.code, found.text) == ("BF005", "the label 'calm' has 3 training examples")
    assert data_findings(TaskData(MOODS, {"train": labelled(THERE)})) == []


def test_the_same_text_has_different_labels() -> None:
    train = labelled(np.concatenate([THERE, [[0, 1, 1]]]))
    train.ids[-2:] = train.ids[:2]
    [found] = data_findings(TaskData(MOODS, {"train": train}))
    assert (found.code, found.text) == (
        "BF010",
        "train has the same text with different labels (1 such text): text 1 is labelled 'sad' and 'glad' and 'calm'",
    )
    train.labels[-1] = train.labels[0]
    assert data_findings(TaskData(MOODS, {"train": train})) == []


def test_a_text_lacks_a_label_that_is_sure() -> None:
    sure = np.where(THERE, 4.0, -4.0)
    assert absent_labels(MOODS, labelled(THERE), sure) == []
    sure[1, 2] = 5.0
    [found] = absent_labels(MOODS, labelled(THERE), sure)
    assert (found.code, found.text) == ("BF014", "labels of validation look wrong: text 2 lacks 'calm' (0.993)")
