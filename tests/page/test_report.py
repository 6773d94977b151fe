"""A page about any delta: what it says, and that nothing of a hostile file or text runs or is fetched."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bitfit
from bitfit import Delta, Evaluation, Task
from bitfit.errors import RequestError
from bitfit.inference.evaluation import ScoredRows, evaluation_of
from tests.models import tiny_backbone
from tests.page.reading import check_harmless
from tests.training.tiny_task import tiny_data
from tests.training.trained import trained

HOSTILE = '</title><script>alert(1)</script><img src="http://x/y" onerror="alert(2)">\u202e'
SETTINGS = bitfit.TrainConfig(epochs=2, learning_rate=1e-2, precision="fp32")
OLD = Path(__file__).parents[1] / "delta" / "fixtures" / "whole-biases.safetensors"
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@pytest.fixture(scope="module")
def backbone() -> bitfit.Backbone:
    return tiny_backbone("bert")


@pytest.fixture(scope="module")
def runs(backbone: bitfit.Backbone) -> dict[str, bitfit.Run]:
    """A run of each kind of task."""
    kinds = ("class", "labels", "number", "tags")
    return {kind: bitfit.train(backbone, tiny_data(kind), config=SETTINGS, baselines=False) for kind in kinds}


def mood(name: str, labels: tuple[str, ...], texts: list[str]) -> tuple[Task, Evaluation]:
    """A task with labels of any name, and an evaluation of rows with any texts."""
    data, task = tiny_data(validation=len(texts)), Task(name, "class", (name,), name, labels)
    gold = np.arange(len(texts)) % len(labels)
    logits = np.random.default_rng(0).normal(size=(len(texts), len(labels))) + 2 * np.eye(len(labels))[gold]
    examples = replace(data.splits["validation"], labels=gold)
    rows = ScoredRows(task, name, examples, logits, f"{len(texts)}", (name,), pa.table({name: texts}))
    return task, evaluation_of(rows, 1.5)


def test_labels_have_a_line_each_with_their_thresholds(
    backbone: bitfit.Backbone, runs: Mapping[str, bitfit.Run]
) -> None:
    delta, data = runs["labels"].delta, tiny_data("labels")
    rows = ScoredRows(
        delta.task,
        "validation",
        data.splits["validation"],
        np.random.default_rng(0).normal(size=(10, 3)),
        "10",
        table=pa.table({"text": [f"text {i}" for i in range(10)]}),
        thresholds=delta.thresholds,
    )
    found = evaluation_of(rows, None)
    page = check_harmless(bitfit.report(delta, found, backbone, file="moods.safetensors").html)
    assert f"Micro F1 is {100 * found.scores['micro_f1']:.1f} % on the 10 rows of validation" in page.text
    assert "answers any of 3 labels, or none (low, middle, high)" in page.text
    for words in ("Label by label", "average precision", "threshold", "The largest errors", "Examples of each label"):
        assert words in page.text


@pytest.mark.parametrize("kind", ["class", "number", "tags"])
def test_a_page_says_what_it_is_and_how_good(
    kind: str, backbone: bitfit.Backbone, runs: Mapping[str, bitfit.Run]
) -> None:
    delta = runs[kind].delta
    found = bitfit.evaluation(backbone, delta, tiny_data(kind), "test")
    made = bitfit.report(delta, found, backbone, file="mood.safetensors")
    page = check_harmless(made.html)
    assert made.missing == ()
    low, high = found.interval.to_json()
    if kind == "number":
        score = f"Spearman's rank correlation is {found.scores['spearman']:.3f} on the 9 rows of test"
        assert f"{score} (95 % interval {low:.3f} to {high:.3f})" in page.text
        assert "mean absolute error" in page.text
    else:
        of = "the words of the 9 sentences" if kind == "tags" else "the 9 rows"
        score = f"It is right on {100 * found.scores['accuracy']:.1f} % of {of} of test"
        assert f"{score} (95 % interval {100 * low:.1f} to {100 * high:.1f} %)" in page.text
    for words in (
        "How it learnt",
        "What training changed",
        "in thousandths",
        "b_m2",
        "bitfit predict mood.safetensors",
        "torch version",
    ):
        assert words in page.text
    for title, of in (("Class by class", "class"), ("Tag by tag", "tags"), ("How sure it is", "class")):
        assert (title in page.text) == (kind == of)


def test_without_an_evaluation_the_page_has_what_the_file_tells(runs: Mapping[str, bitfit.Run]) -> None:
    run = runs["class"]
    made = bitfit.report(run.delta)
    page = check_harmless(made.html)
    assert [line.split(":")[0] for line in made.missing] == [
        "Single texts and their answers",
        "How far each term moved",
    ]
    assert f"It is right on {100 * run.scores['test']['accuracy']:.1f} % of the 9 rows of test." in page.text
    assert "Not on this page" in page.text
    assert "Loss by epoch" in page.text
    assert "On validation, the worst class first" in page.text
    assert "expected calibration error" in page.text
    assert "Precision and coverage" not in made.html
    assert "no data was read" in page.text


def test_a_file_of_an_older_version_makes_a_page_that_says_what_it_lacks() -> None:
    made = bitfit.report(Delta.load(OLD))
    page = check_harmless(made.html)
    assert "Curves of loss and score: the file does not have the epochs of its training." in page.text
    assert "that the file holds" not in page.text


def test_rivals_findings_and_the_threshold_are_told(runs: Mapping[str, bitfit.Run]) -> None:
    run = runs["class"].beside({"frozen probe": 1.0, "TF-IDF": 0.0})
    assert run.validation is not None
    sure = run.unsure_below(run.validation.threshold(0.01))
    page = check_harmless(bitfit.report(sure.delta, run.validation).html)
    assert "frozen probe is better on validation." in page.text
    assert "BF001" in page.text
    assert "Below a confidence of 0 it is unsure; of the 100.0 % of rows above it" in page.text
    alone = check_harmless(bitfit.report(sure.delta).html).text
    assert (
        "Below a confidence of 0 it is unsure; it was chosen so that 1.0 % of the answers above it are right." in alone
    )
    better = runs["class"].beside({"frozen probe": 0.0})
    if better.scores["validation"]["accuracy"] > 0:
        assert "it is better than simpler models" in check_harmless(bitfit.report(better.delta).html).text


def test_the_surest_errors_are_shown_with_their_texts() -> None:
    task, found = mood("mood", ("sad", "glad"), [f"text {number}" for number in range(60)])
    delta = replace(made_delta(), task=task)
    page = check_harmless(bitfit.report(delta, found).html)
    wrong = found.hardest()["mood"].to_pylist()[0]
    assert "The surest wrong answers" in page.text
    assert f" {wrong} " in page.text
    assert "ROC curve of glad: the area under it is" in page.text
    assert "rows with the label" in page.text


def made_delta(**changed: Any) -> Delta:
    """A small delta that says of itself what it is told to."""
    values = {"classifier.bias": np.zeros(2, np.float32)}
    slot = bitfit.Slot("classifier.bias", (2,), None, in_head=True)
    task = Task("mood", labels=["sad", "glad"])
    return replace(Delta("model", f"sha256:{'0' * 64}", "bitfit", "full", (slot,), values, task), **changed)


def test_the_learning_rates_that_raced_are_told() -> None:
    race = {"rates": [1e-3, 4e-3, 8e-3, 1.6e-2], "steps": [20, 50, 50, 50], "losses": [0.2, 0.25, 0.3, None]}
    history = {"epoch": [1], "train": {"loss": [0.5]}}
    page = check_harmless(bitfit.report(made_delta(settings={"race": race, "history": history})).html)
    assert "0.001 20 0.2000 0.004 50 0.2500 went on 0.008 50 0.3000 Learning" in page.text
    for odd in ({}, [], {**race, "steps": 3}, {**race, "rates": [HOSTILE] * 3}):
        check_harmless(bitfit.report(made_delta(settings={"race": odd, "history": history})).html)


def test_a_task_of_spans_has_its_scores_and_curves() -> None:
    backbone, delta = trained("span")
    made = bitfit.report(delta, backbone=backbone)
    page = check_harmless(made.html)
    assert "Reads question and context and answers with a part of the text. F1 is " in page.text
    assert "What training changed" in page.text
    assert "split windows pieces a window cut train 16" in page.text


def test_of_a_part_of_the_rows_both_numbers_are_told() -> None:
    scores = {"validation": {"accuracy": 0.5}}
    delta = made_delta(scores=scores, settings={"measured_on": {"validation": {"rows": 7469, "of": 9815}}})
    read = Delta.from_bytes(delta.to_bytes())  # a file sorts its keys
    assert "50.0 % of the 7,469 of 9,815 rows of validation." in check_harmless(bitfit.report(read).html).text


def test_hostile_names_and_texts_are_shown_and_do_nothing() -> None:
    task, found = mood(HOSTILE, (HOSTILE, f"{HOSTILE}2", "3"), [HOSTILE] * 60)
    finding = {"code": HOSTILE, "severity": "warning", "text": HOSTILE, "remedy": HOSTILE}
    delta = made_delta(
        task=task,
        backbone=HOSTILE,
        method=HOSTILE,
        scores={HOSTILE: {HOSTILE: 0.5}, "validation": {"accuracy": 0.5}},
        versions={HOSTILE: HOSTILE},
        settings={
            HOSTILE: HOSTILE,
            "findings": [finding],
            "baselines": {HOSTILE: 0.4, "TF-IDF": 0.6},
            "measured_on": {HOSTILE: HOSTILE, "validation": {HOSTILE: HOSTILE}},
            "history": {"epoch": [1], "phase": [HOSTILE], "train": {HOSTILE: [1.0], "loss": [1]}, "best": 1},
            "facts": {"examples": {HOSTILE: 3, "train": 5}, "pieces": {HOSTILE: 3}, "classes": [1, 2, 3]},
        },
    )
    made = bitfit.report(delta, found, file=HOSTILE, missing=[HOSTILE])
    page = check_harmless(made.html)
    assert "<script" not in made.html
    assert "\u202e" not in made.html
    assert page.text.count("<script>alert(1)</script>") > 20


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(
            ["history", "facts", "findings", "baselines", "measured_on", "validation", "run", "data", "epochs", "x"]
        ),
        ANY | st.dictionaries(st.sampled_from(["examples", "classes", "train", "epoch", "cut", "validation"]), ANY),
    ),
    st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.dictionaries(st.text(min_size=1, max_size=9), st.integers() | st.floats(-9, 9)),
    ),
)
def test_whatever_the_settings_of_a_file_are_there_is_a_page(document: Any, scores: Any) -> None:
    check_harmless(bitfit.report(made_delta(settings=document, scores=scores)).html)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=2, max_size=5, unique=True), st.text(min_size=1, max_size=30))
def test_whatever_labels_and_texts_are_there_is_a_page(labels: list[str], text: str) -> None:
    task, found = mood(text, tuple(labels), [text] * 40)
    html = bitfit.report(made_delta(task=task), found).html
    check_harmless(html)
    html.encode("utf-8")


def test_many_classes_and_many_rows_stay_a_page_of_a_reasonable_size() -> None:
    labels = tuple(f"class {number}" for number in range(150))
    task, found = mood("many", labels, [f"a text of some words, number {number}" for number in range(20_000)])
    html = bitfit.report(made_delta(task=task), found).html
    assert len(html) < 4_000_000
    assert "The 30 worst of 150 are shown." in check_harmless(html).text


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        ("/home/ada/mood.csv is what the delta was trained on", "mood.csv is what the delta was trained on"),
        ("ud-ewt: read from /srv/data/ud_english_ewt", "ud-ewt: read from ud_english_ewt"),
        (r"C:\Users\ada\mood.csv: 3 rows", "mood.csv: 3 rows"),
        ("no model '~/models/minilm' here, nor x/y", "no model 'minilm' here, nor x/y"),
        ("see https://example.org/a/b and 1/2 of 3", "see https://example.org/a/b and 1/2 of 3"),
    ],
)
def test_the_folders_of_the_writer_are_not_on_the_page(note: str, shown: str) -> None:
    assert shown in check_harmless(bitfit.report(made_delta(), missing=[note]).html).text


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    made = bitfit.report(made_delta())
    assert made.save(tmp_path / "page.html").read_text(encoding="utf-8") == made.html
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(RequestError, match="cannot be written"):
        made.save(tmp_path / "no" / "page.html")


def test_what_is_no_evaluation_is_refused() -> None:
    with pytest.raises(RequestError, match=r"Expected an Evaluation, as bitfit\.evaluation gives it; found \{'acc"):
        bitfit.report(made_delta(), {"accuracy": 1.0})  # type: ignore[arg-type]
