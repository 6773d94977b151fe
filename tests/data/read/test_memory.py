"""Data in memory comes in like files: the same rows, the same checks and messages, whatever holds them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bitfit.data.options import DataOptions
from bitfit.data.read.source import load_task
from bitfit.errors import DataError, RequestError

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
datasets = pytest.importorskip("datasets", reason="the extra 'hub' is not installed")

TEXTS = [f"text number {index}" for index in range(30)]
LABELS = ["yes" if index % 3 else "no" for index in range(30)]
COLUMNS = {"text": TEXTS, "label": LABELS}
DICTS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


class ArrowStream:
    """What polars and other libraries give: columns by name, and Arrow's own interface."""

    columns = tuple(COLUMNS)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        views = pa.table({name: pa.array(values, pa.string_view()) for name, values in COLUMNS.items()})
        return views.__arrow_c_stream__(requested_schema)


FORMS: dict[str, Callable[[], Any]] = {
    "DataFrame": lambda: pandas.DataFrame(COLUMNS),
    "DataFrame of categories": lambda: pandas.DataFrame(COLUMNS).astype({"label": "category"}),
    "Dataset": lambda: datasets.Dataset.from_dict(COLUMNS),
    "Table": lambda: pa.table(COLUMNS),
    "Arrow stream": ArrowStream,
    "dicts": lambda: DICTS,
    "columns": lambda: COLUMNS,
    "columns of arrays": lambda: {"text": np.array(TEXTS), "label": pandas.Series(LABELS)},
    "pair": lambda: (TEXTS, LABELS),
    "pair of tuples": lambda: tuple(zip(*zip(TEXTS, LABELS, strict=True), strict=True)),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in-memory.csv"
    path.write_text("\n".join(["text,label", *map(",".join, zip(TEXTS, LABELS, strict=True))]) + "\n")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_table_that_the_file_gives(form: str, file: Path) -> None:
    wanted, found = load_task(file), load_task(FORMS[form]())
    assert found.task == wanted.task
    assert found.splits == wanted.splits
    assert [note for note in found.notes if "read from" not in note] == [
        note for note in wanted.notes if "read from" not in note
    ]


def test_polars_gives_the_same(file: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    assert load_task(polars.DataFrame(COLUMNS)).splits == load_task(file).splits
    with pytest.raises(RequestError, match=r"a LazyFrame, which gives none\. Collect its rows first"):
        load_task(polars.LazyFrame(COLUMNS))


def test_a_selection_of_a_dataset_gives_its_own_rows_in_its_own_order() -> None:
    chosen = datasets.Dataset.from_dict(COLUMNS).shuffle(seed=3).select(range(12))
    given = {"train": chosen, "validation": chosen}
    assert load_task(given).splits["train"]["text"].to_pylist() == list(chosen["text"])


@pytest.mark.parametrize(
    "splits",
    [
        {"train": DICTS, "test": DICTS[:6]},
        {"train": pandas.DataFrame(COLUMNS), "test": (TEXTS[:6], LABELS[:6])},
        {"training": COLUMNS, "test": pa.table(COLUMNS).slice(0, 6)},
        datasets.DatasetDict(
            train=datasets.Dataset.from_dict(COLUMNS), test=datasets.Dataset.from_dict(COLUMNS).select(range(6))
        ),
    ],
)
def test_a_dict_of_splits_keeps_them(splits: Any) -> None:
    table = load_task(splits)
    assert {name: rows.num_rows for name, rows in table.splits.items()} == {"train": 27, "validation": 3, "test": 6}


def test_other_splits_are_said_not_to_be_read_and_train_must_be_there() -> None:
    assert "not read: unsupervised" in load_task({"train": DICTS, "unsupervised": DICTS}).notes
    with pytest.raises(DataError, match="the data has no split 'train'; found test, dev"):
        load_task({"test": DICTS, "dev": DICTS})


def test_a_pair_may_hold_pairs_of_texts_or_words_with_tags() -> None:
    pairs = load_task(([*zip(TEXTS, TEXTS[::-1], strict=True)], LABELS))
    assert (pairs.task.kind, pairs.task.texts) == ("class", ("text", "text_pair"))
    words = load_task(([text.split() for text in TEXTS], [["A", "B", "A"]] * 30))
    assert (words.task.kind, words.task.labels) == ("tags", ("A", "B"))


def test_columns_are_those_that_are_named() -> None:
    frame = pandas.DataFrame({"body": TEXTS, "other": TEXTS, "mood": LABELS})
    task = load_task(frame, options=DataOptions(text="body", label="mood")).task
    assert (task.texts, task.label) == (("body",), "mood")
    named = load_task((TEXTS, LABELS), options=DataOptions(text="body", label="mood")).task
    assert (named.texts, named.label) == (("body",), "mood")
    with pytest.raises(DataError, match=r"(?s)the data lacks columns.*Did you mean 'body'"):
        load_task(frame, options=DataOptions(text="bodi"))


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        (np.arange(30) % 2, "class", ("0", "1")),
        ((np.arange(30) % 2).astype(bool), "class", ("false", "true")),
        (np.linspace(0, 1, 30, dtype=np.float32), "number", ()),
        (np.array(LABELS), "class", ("no", "yes")),
        ([np.int64(index % 3) for index in range(30)], "class", ("0", "1", "2")),
    ],
)
def test_numbers_and_texts_of_numpy_are_those_of_python(labels: Any, kind: str, names: tuple[str, ...]) -> None:
    for data in [
        (TEXTS, labels),
        pandas.DataFrame({"text": TEXTS, "label": labels}),
        [{"text": np.str_(text), "label": label} for text, label in zip(TEXTS, labels, strict=True)],
    ]:
        task = load_task(data).task
        assert (task.kind, task.labels) == (kind, names)


def test_label_names_of_a_dataset_are_used() -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["sad", "glad"]))
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 15}, features=features)
    assert load_task(data).task.labels == ("sad", "glad")


def test_answers_in_a_context_come_in_too() -> None:
    answers = [{"text": np.array(["number"]), "answer_start": np.array([5])}] * 30
    frame = pandas.DataFrame({"question": TEXTS, "context": TEXTS, "answers": answers})
    assert load_task(frame).task.kind == "span"


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA, pandas.NaT])
def test_every_problem_is_named_by_its_row_and_column(missing: Any) -> None:
    frame = pandas.DataFrame(COLUMNS).astype(object)
    frame.loc[4, "text"] = missing
    frame.loc[7, "label"] = missing
    with pytest.raises(DataError) as caught:
        load_task(frame)
    assert str(caught.value).startswith("the data cannot be used: 2 problems (rows count from 1")
    assert caught.value.problems == (
        "the data, row 5, column 'text': the text is missing",
        "the data, row 8, column 'label': the label is missing",
    )
    with pytest.raises(DataError, match="validation, row 5, column 'text': the text is missing"):
        load_task({"train": DICTS, "validation": frame.drop(index=7)})


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ([], DataError, "the data has no rows to train on"),
        ({}, DataError, "the data has no rows to train on"),
        (([], []), DataError, "the data has no rows to train on"),
        ((TEXTS, LABELS[1:]), DataError, "the data has 30 texts and 29 labels"),
        ({"text": TEXTS, "label": LABELS[1:]}, DataError, "one length: 'text' has 30, 'label' has 29"),
        ([*DICTS, ("text", "no")], RequestError, r"row 31 is \('text', 'no'\).*as a pair of lists: \(texts, labels\)"),
        (TEXTS, RequestError, "row 1 is 'text number 0'"),
        ({"text": "one text", "label": "no"}, RequestError, "a column as a list of values; found 'one text'"),
        (7, RequestError, "a task's name, a file or folder, or rows: a DataFrame, .*; found 7, a int"),
        (None, RequestError, "found NoneType"),
        (pandas.Series(TEXTS), RequestError, "found Series"),
        (pandas.DataFrame([TEXTS, LABELS], columns=["a"] * 30), DataError, "names a column twice: a"),
        (datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset(), RequestError, "Collect its rows first"),
    ],
)
def test_what_are_no_rows_is_refused_with_what_would_be(data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_task(data)


def test_a_table_that_is_read_takes_a_length_and_a_size_and_refuses_columns() -> None:
    table = load_task(DICTS)
    smaller = load_task(table, options=DataOptions(max_length=9, pool="mean", train_size=10))
    assert (smaller.task.max_length, smaller.task.pool, smaller.splits["train"].num_rows) == (9, "mean", 10)
    words = r"`DataOptions\(text=\.\.\.\)`, `DataOptions\(kind=\.\.\.\)` can change nothing about a TaskTable"
    with pytest.raises(RequestError, match=words):
        load_task(table, options=DataOptions(text="text", kind="class"))


def test_data_of_ones_own_takes_a_name_and_what_has_one_refuses_it(file: Path) -> None:
    named = DataOptions(name="reviews")
    assert load_task(DICTS, options=named).task == load_task(file, options=named).task
    assert load_task(DICTS, options=named).task.name == "reviews"
    with pytest.raises(RequestError, match=r"`DataOptions\(name=\.\.\.\)` can change nothing about a TaskTable"):
        load_task(load_task(DICTS), options=named)
    with pytest.raises(RequestError, match=r"'rotten-tomatoes' has a name"):
        load_task("rotten-tomatoes", options=named)


@pytest.mark.parametrize("others", [(), ("test",)])
def test_a_misspelt_train_is_asked_about(others: tuple[str, ...]) -> None:
    tables = {name: pa.table({"text": ["a", "b"], "label": ["x", "y"]}) for name in ("trian", *others)}
    with pytest.raises(DataError, match=r"has no split 'train'; found trian.* Did you mean 'train' by 'trian'\?"):
        load_task(tables)
