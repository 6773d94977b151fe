"""Rows that cannot be used: refused together with the way on, or left out where that is asked for, and named."""

from pathlib import Path
from typing import Any

import pytest

from bitfit.data.options import DataOptions
from bitfit.data.read.own_rows import labelled_rows
from bitfit.data.read.source import load_task
from bitfit.data.table import TaskTable
from bitfit.data.task import Task
from bitfit.errors import DataError, RequestError

GOOD = [(f"text number {index}", "yes" if index % 3 else "no") for index in range(12)]
WAY_ON = "Mend these rows, or leave them out: `DataOptions(skip_bad_rows=True)`."
SKIP = DataOptions(skip_bad_rows=True)


def write(path: Path, rows: list[str]) -> str:
    path.parent.mkdir(exist_ok=True)
    good = [f"{text},{label}" for text, label in GOOD]
    path.write_text("\n".join(["text,label", *rows, *good]) + "\n")
    return str(path)


def left_out(table: TaskTable) -> list[str]:
    return [note for note in table.notes if "left out" in note]


def size(table: TaskTable) -> int:
    return sum(rows.num_rows for rows in table.splits.values())


def test_without_the_option_they_are_refused_with_the_way_on(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", [",yes", "words,"])
    with pytest.raises(DataError, match="2 problems") as caught:
        load_task(path)
    assert WAY_ON in str(caught.value)


def test_each_split_says_which_it_leaves_out(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "train.csv", [",yes", ",", "a,b,c", "words,", "d,e,f"])
    write(tmp_path / "mine" / "validation.csv", [])
    write(tmp_path / "mine" / "test.csv", ["words,perhaps"])
    table = load_task(str(tmp_path / "mine"), options=SKIP)
    assert {split: rows.num_rows for split, rows in table.splits.items()} == dict.fromkeys(table.splits, 12)
    train, test = left_out(table)
    assert train.startswith("train: 5 rows that cannot be used are left out: ")
    assert train.endswith("; and 2 more")
    assert test.startswith("test: 1 row that cannot be used is left out: ")
    assert "test.csv, row 1, column 'label': the label 'perhaps' is not among those of train (no, yes)" in test


def test_a_test_split_without_labels_is_still_one_to_answer(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "train.csv", [])
    (tmp_path / "mine" / "test.csv").write_text("text,label\na,\nb,\n")
    table = load_task(str(tmp_path / "mine"), options=SKIP)
    assert any("test: no labels" in note for note in table.notes)
    assert not left_out(table)


def test_a_class_of_bad_rows_alone_is_no_class(tmp_path: Path) -> None:
    table = load_task(write(tmp_path / "mine.csv", [",perhaps"]), options=SKIP)
    assert table.task.labels == ("no", "yes")
    write(tmp_path / "two" / "train.csv", [",perhaps"])
    write(tmp_path / "two" / "validation.csv", ["words,perhaps"])
    both = load_task(str(tmp_path / "two"), options=SKIP)
    assert size(both) == 24
    assert len(left_out(both)) == 2


def test_rows_in_memory(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": text, "label": label} for text, label in GOOD]
    table = load_task([*rows, {"text": None, "label": "yes"}], options=SKIP)
    assert size(table) == 12
    assert "the data, row 13, column 'text': the text is missing" in left_out(table)[0]


def test_sentences_and_answers_in_texts(tmp_path: Path) -> None:
    tags = [{"tokens": ["a", "b"], "tags": ["X", "Y"]}] * 6
    table = load_task([*tags, {"tokens": ["a"], "tags": ["X", "Y"]}], options=SKIP)
    assert (size(table), len(left_out(table))) == (6, 1)
    span = [{"question": "who", "context": "it is I", "answers": "I"}] * 6
    table = load_task([*span, {"question": "who", "context": "it is I", "answers": "you"}], options=SKIP)
    assert (size(table), len(left_out(table))) == (6, 1)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (['"never closed,yes'], "nothing after it was read"),
        (["d\udce9j\udce0,yes"], "not UTF-8: 'déjà' in latin-1"),
    ],
)
def test_what_is_wrong_with_the_file_is_refused_all_the_same(tmp_path: Path, rows: list[str], words: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("\n".join(["text,label", *map(",".join, GOOD), *rows]).encode("utf-8", "surrogateescape"))
    for options in (SKIP, DataOptions()):
        with pytest.raises(DataError) as caught:
            load_task(str(path), options=options)
        assert words in str(caught.value)
        assert WAY_ON not in str(caught.value)


def test_where_no_row_is_left_each_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,label\n,yes\n,no\n")
    with pytest.raises(DataError, match="no rows to train on") as caught:
        load_task(str(path), options=SKIP)
    assert "row 1, column 'text': the text is empty" in str(caught.value)


def test_a_file_to_be_scored(tmp_path: Path) -> None:
    path, task = write(tmp_path / "mine.csv", [",yes", "words,", "a,b,c"]), Task("mood", labels=("no", "yes"))
    with pytest.raises(DataError, match="3 problems") as caught:
        labelled_rows(path, task, DataOptions())
    assert WAY_ON in str(caught.value)
    table = labelled_rows(path, task, SKIP)
    assert table.measured_on == {"all": "12"}
    assert left_out(table)[0].startswith("all: 3 rows that cannot be used are left out: ")


def test_known_tasks_are_read_whole() -> None:
    with pytest.raises(RequestError, match=r"'rotten-tomatoes' is read whole; `DataOptions\(skip_bad_rows=True\)`"):
        load_task("rotten-tomatoes", options=SKIP)
    with pytest.raises(RequestError, match="Expected True or False as skip_bad_rows; found 1"):
        DataOptions(skip_bad_rows=1)  # type: ignore[arg-type]
