"""What simple rivals reach, beside a run: computed from the frozen model, the same each time, left out where asked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bitfit
from bitfit import TrainConfig
from bitfit.data.examples import Examples, TaskData
from bitfit.data.task import Metric, Task
from bitfit.training import baselines
from bitfit.training.baselines import PROBE, TFIDF, baseline_scores, better_baselines, comparison, frozen_features
from bitfit.watcher import Watcher
from tests.models import VOCABULARY, tiny_backbone
from tests.training.tiny_task import tiny_data

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not

SLOW = TrainConfig(learning_rate=1e-6, epochs=1, precision="fp32")  # a run that learns nothing
MIDDLE = VOCABULARY // 2


class Notes(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def separable(kind: str = "class", train: int = 200, validation: int = 30) -> TaskData:
    """Texts of low words alone or of high words alone: any linear model on words or on their mean tells them apart."""
    task = Task("low or high", kind, labels=("low", "high") if kind == "class" else (), max_length=16)  # type: ignore[arg-type]
    return TaskData(task, {"train": _texts(kind, train, 0), "validation": _texts(kind, validation, 1)})


def _texts(kind: str, count: int, seed: int) -> Examples:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(4, 12, count)
    high = np.arange(count) % 2
    ids = draw.integers(4, MIDDLE, lengths.sum()) + np.repeat(high, lengths) * (MIDDLE - 4)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    labels = high if kind == "class" else high.astype(np.float32) + draw.random(count, np.float32) / 10
    return Examples(ids.astype(np.int32), np.zeros(len(ids), np.uint8), offsets, labels)


def scores(data: TaskData, said: Notes | None = None) -> dict[str, float]:
    return baseline_scores(tiny_backbone("bert"), data, SLOW, (said or Notes()).note)


def test_a_run_says_which_rivals_are_better() -> None:
    run = bitfit.train(tiny_backbone("bert"), separable(), "bitfit", SLOW)
    assert run.baselines[PROBE] > 0.8
    assert run.baselines[TFIDF] > 0.9
    assert run.scores["validation"]["accuracy"] < 0.8
    assert run.to_json()["baselines"] == run.delta.settings["baselines"] == run.baselines
    assert run.comparison.startswith("bitfit ")
    worse = next(finding for finding in run.findings if finding.code == "BF001")
    assert worse.text == "frozen probe and TF-IDF are better than bitfit on validation"


def test_the_line_has_the_usual_figures() -> None:
    task = separable().task
    line = comparison(task, "bitfit", 0.894, {"TF-IDF": 0.742, "frozen probe": 0.81})
    assert line == "bitfit 89.4, frozen probe 81.0, TF-IDF 74.2 (validation accuracy)"


def test_a_tie_is_no_win_and_less_may_be_better() -> None:
    assert better_baselines(separable().task, 0.8, {TFIDF: 0.9, PROBE: 0.8}) == [TFIDF]
    metrics: tuple[Metric, ...] = ("mean_squared_error",)
    task = replace(separable("number").task, metrics=metrics)
    assert comparison(task, "bitfit", 0.5, {PROBE: 0.25}) == (
        "bitfit 0.5000, frozen probe 0.2500 (validation mean_squared_error)"
    )
    assert better_baselines(task, 0.5, {PROBE: 0.25}) == [PROBE]
    assert better_baselines(task, 0.25, {PROBE: 0.5}) == []


def test_a_number_has_a_probe_alone() -> None:
    found = scores(separable("number"))
    assert list(found) == [PROBE]
    assert found[PROBE] > 0.7


def several(count: int, seed: int) -> Examples:
    """A label for low words, one for high words, and one that no text has."""
    examples = _texts("class", count, seed)
    high = np.add.reduceat(examples.ids >= MIDDLE, examples.offsets[:-1]) > 0
    return replace(examples, labels=np.stack([~high, high, high & False], axis=1).astype(np.int8))


def test_labels_have_both_one_against_the_rest() -> None:
    task = Task("low and high", "labels", labels=("low", "high", "never"), max_length=16)
    found = scores(TaskData(task, {"train": several(200, 0), "validation": several(30, 1)}))
    assert list(found) == [PROBE, TFIDF]
    assert min(found.values()) > 0.9


def test_labels_fitted_at_once_are_those_of_a_regression_each() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    features = draw.normal(size=(80, 5))
    there = (features @ draw.normal(size=(5, 3)) + draw.normal(size=(80, 3)) > 0.5).astype(np.float64)
    found = baselines._one_against_rest((features, features), there, 0.3)
    for label in range(3):
        alone = LogisticRegression(C=0.3, tol=1e-8).fit(features, there[:, label]).decision_function(features)
        np.testing.assert_allclose(found[:, label], alone, atol=0.02)


@pytest.mark.parametrize("kind", ["tags", "span"])
def test_other_kinds_have_none_and_nothing_is_said(kind: str) -> None:
    data, said = tiny_data("tags", validation=30), Notes()
    task = data.task if kind == "tags" else Task("tiny-span", "span", ("question", "context"), max_length=16)
    assert scores(replace(data, task=task), said) == {}
    assert said.said == []


def test_none_where_they_are_not_wanted() -> None:
    run = bitfit.train(tiny_backbone("bert"), separable(), "bitfit", SLOW, baselines=False)
    assert run.baselines == {}
    assert run.comparison == ""
    assert "baselines" not in run.delta.settings


def test_too_little_to_tell_is_said() -> None:
    said = Notes()
    assert scores(separable(validation=19), said) == {}
    data = separable()
    same = replace(data.splits["train"], labels=np.zeros(200, np.int64))
    assert scores(replace(data, splits={**data.splits, "train": same}), said) == {}
    assert said.said == [
        "No baselines: validation has 19 labelled rows, and fewer than 20 cannot tell",
        "No baselines: 200 training examples all have the same label",
    ]


def test_a_model_whose_outputs_are_not_finite_has_no_probe() -> None:
    backbone = tiny_backbone("bert")
    with torch.no_grad():
        next(backbone.model.parameters()).fill_(torch.nan)
    assert list(baseline_scores(backbone, separable(), SLOW, Notes().note)) == [TFIDF]


def test_rows_without_a_label_are_left_out() -> None:
    data = separable()
    unknown = {name: np.where(np.arange(len(split)) < 4, -1, split.labels) for name, split in data.splits.items()}
    some = {name: replace(split, labels=unknown[name]) for name, split in data.splits.items()}
    assert scores(replace(data, splits=some))[TFIDF] > 0.9


def test_the_cache_changes_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = separable()
    first = scores(data)
    assert len(list((cache / "features").iterdir())) == 2
    monkeypatch.setattr(baselines, "_computed", None)  # read, not computed again
    assert scores(data) == first


def test_a_delta_is_the_same_to_the_bit_from_the_cache_or_without_it() -> None:
    runs = [bitfit.train(tiny_backbone("bert"), separable(), "bitfit", SLOW) for _ in range(2)]
    assert runs[0].baselines
    assert runs[0].delta.to_bytes() == runs[1].delta.to_bytes()


def test_a_row_of_a_grid_has_what_it_has_alone() -> None:
    configs = [SLOW, replace(SLOW, seed=1)]
    together = bitfit.train_rows(tiny_backbone("bert"), separable(), "bitfit", configs)
    alone = bitfit.train(tiny_backbone("bert"), separable(), "bitfit", configs[1])
    assert [run.baselines for run in together] == [alone.baselines] * 2


def test_they_learn_from_a_limited_number_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(task: Task, sides: tuple[Examples, Examples], *_: object) -> float:
        sizes.append(len(sides[0]))
        return 0.5

    limits: Mapping[str, int] = {PROBE: 30, TFIDF: 50}
    monkeypatch.setattr(baselines, "MOST_EXAMPLES", limits)
    monkeypatch.setattr(baselines, "_best", counted)
    said = Notes()
    scores(separable(), said)
    monkeypatch.setattr(baselines, "MOST_TOKENS", {PROBE: 100, TFIDF: 300})
    scores(separable(), Notes())
    assert sizes[:2] == [30, 50]
    assert 100 // 11 <= sizes[2] <= 100 // 4  # of 4 to 11 tokens each
    assert 300 // 11 <= sizes[3] <= 300 // 4
    assert said.said == [
        "frozen probe, to compare with, learns from 30 of 200 training examples",
        "TF-IDF, to compare with, learns from 50 of 200 training examples",
    ]


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "t5"])
def test_features_are_the_mean_of_the_last_hidden_states(model_type: str) -> None:
    """Of any architecture: without padding, and on padded batches."""
    backbone, examples = tiny_backbone(model_type), separable().splits["validation"]
    features = frozen_features(backbone, examples, SLOW, Notes().note)
    encoder = backbone.model.get_encoder() if model_type == "t5" else backbone.model
    for i, (start, end) in enumerate(zip(examples.offsets, examples.offsets[1:], strict=False)):
        with torch.no_grad():
            hidden = encoder(torch.from_numpy(examples.ids[None, start:end].astype(np.int64))).last_hidden_state
        np.testing.assert_allclose(features[i], hidden[0].mean(0).numpy(), atol=1e-4)


def test_images_have_a_probe_alone() -> None:
    images = {name: _images(size, seed) for seed, (name, size) in enumerate((("train", 60), ("validation", 24)))}
    data = TaskData(Task("bright", labels=("no", "yes")), images)
    assert list(baseline_scores(tiny_backbone("vit"), data, SLOW, Notes().note)) == [PROBE]


def _images(count: int, seed: int) -> Examples:
    bright = np.arange(count) % 2
    noise = np.random.default_rng(seed).normal(size=(count, 3, 16, 16))
    pixels = (noise + bright[:, None, None, None]).astype(np.float32)
    offsets = np.arange(count + 1, dtype=np.int64)
    return Examples(np.zeros(count, np.int32), np.zeros(count, np.uint8), offsets, bright, source={"pixels": pixels})


def test_the_newest_features_alone_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_STORED", 2)
    backbone, kept = tiny_backbone("bert"), cache / "features"
    splits = [_texts("class", 4, seed) for seed in range(3)]
    for examples in splits:
        frozen_features(backbone, examples, SLOW, lambda text: None)
    assert len(list(kept.iterdir())) == 2
    before = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    frozen_features(backbone, splits[-1], SLOW, lambda text: None)  # still there
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == before
