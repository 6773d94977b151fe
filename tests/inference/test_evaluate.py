"""Scores as a stranger asks for them: with the defaults, on a file, a path, a known task or data in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bitfit
from bitfit import Delta, TrainConfig
from bitfit.backbone.load import Backbone
from bitfit.data.options import DataOptions
from bitfit.data.read.source import load_task
from bitfit.errors import DataError, RequestError
from bitfit.inference.evaluate import evaluation
from bitfit.inference.task_data import task_data
from tests.models import tiny_backbone
from tests.training.trained import SETTINGS, sentence, trained

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
datasets = pytest.importorskip("datasets", reason="the extra 'hub' is not installed")

TEXTS = [sentence(number, 4) for number in range(30)]
MOODS = ["glad" if number % 3 else "sad" for number in range(30)]
COLUMNS = {"body": TEXTS, "mood": MOODS}
OPTIONS = DataOptions(text="body", label="mood", max_length=16)
DICTS = [{"body": text, "mood": mood} for text, mood in zip(TEXTS, MOODS, strict=True)]


def write(path: Path, columns: dict[str, list[Any]] = COLUMNS) -> Path:
    lines = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *map(",".join, lines)]) + "\n")
    return path


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone("bert")


@pytest.fixture(scope="module")
def delta(backbone: Backbone) -> Delta:
    return bitfit.train(backbone, DICTS, "bitfit", SETTINGS, options=OPTIONS).delta


def test_five_ways_of_giving_the_same_rows_give_the_same_delta(
    backbone: Backbone, delta: Delta, tmp_path: Path
) -> None:
    for data in (
        pandas.DataFrame(COLUMNS),
        datasets.Dataset.from_dict(COLUMNS),
        (TEXTS, MOODS),
        pa.table(COLUMNS),
    ):
        same = bitfit.train(backbone, data, "bitfit", SETTINGS, options=OPTIONS).delta
        assert same.to_bytes() == delta.to_bytes()
    named = bitfit.train(backbone, DICTS, "bitfit", SETTINGS, options=replace(OPTIONS, name="reviews")).delta
    file = bitfit.train(backbone, write(tmp_path / "reviews.csv"), "bitfit", SETTINGS, options=OPTIONS).delta
    assert file.task.name == "reviews"
    assert file.to_bytes() == named.to_bytes()


def test_another_table_is_scored_whole(backbone: Backbone, delta: Delta, tmp_path: Path) -> None:
    other = {name: values[:12] for name, values in COLUMNS.items()}
    path = write(tmp_path / "other.csv", other)
    wanted = evaluation(backbone, delta, str(path))
    assert (wanted.split, wanted.measured_on) == ("all", "12")
    for data in (path, other, pandas.DataFrame(other), (TEXTS[:12], MOODS[:12]), DICTS[:12]):
        found = evaluation(backbone, delta, data)
        assert (found.split, found.measured_on, found.scores) == ("all", "12", wanted.scores)
        assert bitfit.evaluate(backbone, delta, data) == wanted.scores


def test_the_rows_of_the_training_are_scored_on_what_was_held_out(backbone: Backbone, delta: Delta) -> None:
    found = evaluation(backbone, delta, DICTS)
    assert (found.split, found.measured_on) == ("validation", "3")
    assert "the data is what the delta was trained on" in found.notes
    assert found.scores == delta.scores["validation"]


def test_of_data_with_splits_test_is_scored(backbone: Backbone, delta: Delta) -> None:
    given = {"train": DICTS, "test": DICTS[:9]}
    assert evaluation(backbone, delta, given).split == "test"
    assert evaluation(backbone, delta, {"train": DICTS}).split == "validation"
    assert evaluation(backbone, delta, given, "train").split == "train"


def test_a_table_of_rows_takes_the_deltas_length(backbone: Backbone, delta: Delta) -> None:
    table = load_task(DICTS, options=DataOptions(text="body", label="mood"))
    assert table.task.max_length == 128
    assert bitfit.evaluate(backbone, delta, table) == delta.scores["validation"]


def test_options_that_change_nothing_about_data_that_is_read_are_refused(backbone: Backbone, delta: Delta) -> None:
    data = task_data(backbone, DICTS, OPTIONS)
    assert bitfit.evaluate(backbone, delta, data) == delta.scores["validation"]
    words = r"`DataOptions\(text=\.\.\.\)`, `DataOptions\(max_length=\.\.\.\)` can change nothing about TaskData"
    options = DataOptions(text="body", max_length=9)
    with pytest.raises(RequestError, match=words):
        bitfit.evaluate(backbone, delta, data, options=options)
    with pytest.raises(RequestError, match=words):
        bitfit.train(backbone, data, options=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (DataOptions(pool="mean"), "trained with pool='first'; found pool='mean'"),
        (DataOptions(kind="number"), "trained with kind='class'; found kind='number'"),
        (DataOptions(train_size=5), r"`DataOptions\(train_size=5\)` shortens the rows of train alone; found no split"),
    ],
)
def test_options_that_could_not_change_the_score_are_refused(
    backbone: Backbone, delta: Delta, options: DataOptions, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        bitfit.evaluate(backbone, delta, DICTS, options=options)
    same = DataOptions(pool="first", kind="class")
    assert bitfit.evaluate(backbone, delta, DICTS, options=same) == delta.scores["validation"]
    assert evaluation(backbone, delta, DICTS, "train", options=DataOptions(train_size=5)).measured_on == "5 of 27"


def test_a_whole_table_takes_a_name_and_needs_rows(backbone: Backbone, delta: Delta) -> None:
    rows = pandas.DataFrame({"body": TEXTS[:3], "mood": ["sad", "glad", "glad"]})
    notes = evaluation(backbone, delta, rows, options=DataOptions(name="monday")).notes
    assert any(note.startswith("monday: ") for note in notes)
    with pytest.raises(DataError, match="the data has no rows to score"):
        bitfit.evaluate(backbone, delta, [])


def test_labels_that_the_delta_does_not_know_are_named_by_row(backbone: Backbone, delta: Delta) -> None:
    odd = pandas.DataFrame({"body": TEXTS[:3], "mood": ["sad", "angry", "glad"]})
    with pytest.raises(DataError, match="the data, row 2, column 'mood': the label 'angry' is not among"):
        bitfit.evaluate(backbone, delta, odd)


def test_a_delta_of_rows_in_memory_asks_for_them(backbone: Backbone, delta: Delta) -> None:
    with pytest.raises(RequestError, match=r"trained on data of your own, 'in-memory'.*again: `data=\.\.\.`"):
        bitfit.evaluate(backbone, delta)


@pytest.mark.real
def test_a_known_task_is_scored_with_the_defaults() -> None:
    try:
        backbone = bitfit.load("minilm")
        settings = TrainConfig(epochs=1, precision="fp32")
        run = bitfit.train(backbone, "rotten-tomatoes", "frozen", settings, options=DataOptions(train_size=32))
    except bitfit.errors.MissingExtraError:
        pytest.skip("the extra 'demo' is not installed")
    assert bitfit.evaluate(backbone, run.delta, precision="fp32") == pytest.approx(run.scores["test"])


def test_a_delta_of_another_kind_is_refused(backbone: Backbone) -> None:
    _, numbers = trained("number", backbone)
    with pytest.raises(DataError, match="row 1, column 'label': expected a number, found 'sad'"):
        bitfit.evaluate(backbone, numbers, (TEXTS, MOODS))
