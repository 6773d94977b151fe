"""Any number of labels: lists, cells and columns of 0 and 1 come to the same rows; what is wrong is named."""

import csv
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitfit.data.options import DataOptions
from bitfit.data.read.labels import as_list
from bitfit.data.read.own_rows import labelled_rows
from bitfit.data.read.source import load_task
from bitfit.data.table import TaskTable
from bitfit.data.task import COLUMN_EACH
from bitfit.errors import DataError, RequestError

NAMES = ("crime", "drama", "war")
LABELS = [[name for at, name in enumerate(NAMES) if (i >> at) & 1] for i in range(32)]
TEXTS = [f"text number {i}" for i in range(32)]
ROWS = [{"text": text, "labels": labels} for text, labels in zip(TEXTS, LABELS, strict=True)]
COLUMNS = {
    "text": TEXTS,
    **{name: [int(name in labels) for labels in LABELS] for name in NAMES},
}


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def named(table: TaskTable) -> dict[str, list[str]]:
    """Text -> its labels, over all splits."""
    task = table.task
    return {
        row["text"]: [task.labels[index] for index in row[task.label]]
        for rows in table.splits.values()
        for row in rows.to_pylist()
    }


WANTED = dict(zip(TEXTS, LABELS, strict=True))


def test_a_column_of_lists_is_recognized_and_said(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    table = load_task(path)
    assert (table.task.kind, table.task.label, table.task.labels) == ("labels", "labels", NAMES)
    assert table.task.metrics == ("micro_f1", "macro_f1", "mean_average_precision")
    assert named(table) == WANTED
    assert "kind of task: labels, by the values of 'labels'" in table.notes
    said = r"train: 2\d rows of 3 labels \(1\.\d a row, \d rows without any\): \w+ \d\d\.\d%, "
    assert any(re.match(said, note) for note in table.notes)


@pytest.mark.parametrize("form", ["parquet", "dicts", "table", "pair", "json in CSV", "python in CSV", "separator"])
def test_every_form_of_lists_gives_the_same_rows(tmp_path: Path, form: str) -> None:
    data: Any = {"dicts": ROWS, "table": pa.Table.from_pylist(ROWS), "pair": (TEXTS, LABELS)}.get(form)
    options = DataOptions(label_separator=";") if form == "separator" else DataOptions()
    if form == "parquet":
        data = tmp_path / "mine.parquet"
        pq.write_table(pa.Table.from_pylist(ROWS), data)
    if form.endswith("CSV") or form == "separator":
        cell = {"json in CSV": json.dumps, "python in CSV": repr, "separator": "; ".join}[form]
        data = write_csv(tmp_path / "mine.csv", [{**row, "labels": cell(row["labels"])} for row in ROWS])  # type: ignore[operator]
    table = load_task(data, options=options)
    assert (table.task.kind, table.task.labels, named(table)) == ("labels", NAMES, WANTED)


def test_columns_of_0_and_1_are_labels(tmp_path: Path) -> None:
    options = DataOptions(label=list(NAMES))
    table = load_task(COLUMNS, options=options)
    assert (table.task.kind, table.task.label, table.task.labels) == ("labels", COLUMN_EACH, NAMES)
    assert named(table) == WANTED
    rows = [
        {"text": text, **{name: str(name in labels) for name in NAMES}}
        for text, labels in zip(TEXTS, LABELS, strict=True)
    ]
    assert named(load_task(write_csv(tmp_path / "mine.csv", rows), options=options)) == WANTED
    matrix = np.array([COLUMNS[name] for name in NAMES]).T
    assert named(load_task((TEXTS, matrix), options=options)) == WANTED


def test_numbers_in_a_data_set_are_the_labels_that_it_names() -> None:
    datasets = pytest.importorskip("datasets", reason="the extra 'hub' is not installed")
    several = datasets.Sequence(datasets.ClassLabel(names=["war", "crime", "drama"]))
    features = datasets.Features(text=datasets.Value("string"), labels=several)
    numbers = [[["war", "crime", "drama"].index(name) for name in labels] for labels in LABELS]
    data = datasets.Dataset.from_dict({"text": TEXTS, "labels": numbers}, features=features)
    table = load_task(data)
    assert (table.task.kind, table.task.labels) == ("labels", ("war", "crime", "drama"))
    assert {text: set(labels) for text, labels in named(table).items()} == {t: set(each) for t, each in WANTED.items()}


def test_a_label_that_no_row_of_train_has_is_one_where_its_column_is_named() -> None:
    never = {**COLUMNS, "never": [0] * 32}
    assert load_task(never, options=DataOptions(label=[*NAMES, "never"])).task.labels == (*NAMES, "never")


@pytest.mark.parametrize("label", ["labels", COLUMN_EACH])
def test_rows_are_scored_whatever_names_they_have(label: str) -> None:
    by_list = label == "labels"
    task = load_task(ROWS if by_list else COLUMNS, options=DataOptions(label=None if by_list else NAMES)).task
    table = labelled_rows(ROWS if by_list else COLUMNS, task, DataOptions())
    assert named(table) == WANTED


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=";[]"), min_size=1, max_size=8
).filter(lambda name: name == name.strip() and name not in ("", "nan"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(names, max_size=4, unique=True), min_size=4, max_size=12))
def test_labels_of_any_names_come_back_from_every_form(lists: list[list[str]]) -> None:
    wanted = {f"text {i}": sorted(labels) for i, labels in enumerate(lists)}
    if not any(lists):
        return
    rows = [{"text": text, "labels": labels} for text, labels in zip(wanted, lists, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        for form in (json.dumps, repr, ";".join):
            path = write_csv(Path(folder) / "mine.csv", [{**row, "labels": form(row["labels"])} for row in rows])  # type: ignore[operator, arg-type]
            # JSON and Python end lines in other places than CSV does only where a name holds them: none does.
            options = DataOptions(kind="labels", label_separator=";" if form not in (json.dumps, repr) else None)
            assert {text: sorted(found) for text, found in named(load_task(path, options=options)).items()} == wanted
    assert {text: sorted(found) for text, found in named(load_task(rows)).items()} == wanted


@settings(deadline=None)
@given(st.text(max_size=40), st.sampled_from([None, ";", ", "]))
def test_any_cell_is_read_as_a_list_of_named_labels_or_as_the_list_that_it_shows(cell: str, mark: str | None) -> None:
    found = as_list(cell, mark)
    assert isinstance(found, list)
    if not cell.strip().startswith("["):
        assert all(part == part.strip() and part and (mark is None or mark not in part) for part in found)


def refusal(data: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_task(data, options=DataOptions(**options))
    return str(caught.value)


def test_what_is_wrong_is_named_by_row() -> None:
    rows = [
        *ROWS,
        {"text": "a", "labels": None},
        {"text": "b", "labels": ["war", None]},
        {"text": "c", "labels": [0, 1, 0]},
    ]
    message = refusal(rows)
    assert "row 33, column 'labels': the labels are missing" in message
    assert "row 34, column 'labels': the label is missing" in message
    assert "row 35, column 'labels': expected names of labels, found [0, 1, 0]; give 0 and 1 as a column" in message
    assert len(load_task(rows, options=DataOptions(skip_bad_rows=True)).task.labels) == 3
    wrong = {**COLUMNS, "war": ["perhaps", None, *COLUMNS["war"][2:]]}
    message = refusal(wrong, label=NAMES)
    assert "row 1, column 'war': expected 0 or 1, found 'perhaps'" in message
    assert "row 2, column 'war': expected 0 or 1, the label is missing" in message
    assert "no column 'wor' of labels. Did you mean 'war'" in refusal(COLUMNS, label=["crime", "wor"])
    assert len(named(load_task(wrong, options=DataOptions(label=NAMES, skip_bad_rows=True)))) == 30


def test_an_unknown_label_of_validation_is_named_and_a_cell_of_several_says_how_to_part_it() -> None:
    unknown = {"train": ROWS, "validation": [{"text": "x", "labels": ["war", "peace"]}]}
    assert "the label 'peace' is not among those of train (crime, drama, war)" in refusal(unknown)
    several = {"train": ROWS, "validation": [{"text": "x", "labels": "war;drama"}]}
    assert "If it is several, say what parts them: `DataOptions(label_separator=...)`" in refusal(several)


def test_one_is_told_how_texts_may_have_several() -> None:
    joined = [" | ".join(labels) or "none" for labels in LABELS]
    notes = load_task((TEXTS, joined)).notes
    assert any("class, by the values of 'label' (`DataOptions(label_separator='|')` makes several" in n for n in notes)
    assert not any("label_separator" in n for n in load_task((TEXTS, ["a;b", "c"] * 16)).notes)
    words = r"named together: `DataOptions\(label=\['crime', 'drama'\]\)`\. Columns: text, crime, drama, war"
    with pytest.raises(DataError, match=words):
        load_task(COLUMNS)


def test_a_test_split_without_labels_is_one_to_answer() -> None:
    table = load_task({"train": COLUMNS, "test": {"text": TEXTS}}, options=DataOptions(label=NAMES))
    assert list(table.splits) == ["train", "validation"]
    assert any("test: no labels" in note for note in table.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": ["a", "b"], "kind": "class"}, "for the kind 'labels'; found the kind 'class'"),
        ({"label_separator": ";", "kind": "tags"}, "for the kind 'labels'; found the kind 'tags'"),
        ({"label": ["a", "b"], "label_separator": ";"}, "have no labels to part"),
        ({"label": ["a", "a"]}, "'a' is named twice"),
        ({"label": [1, 2]}, "the name of one column as label"),
        ({"label_separator": ""}, "the text between two labels"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        DataOptions(**options)


def test_rare_labels_are_held_out_too() -> None:
    rows = [{"text": f"t{i}", "labels": ["usual", *(["rare"] if i % 20 == 0 else [])]} for i in range(200)]
    table = load_task(rows)
    rare = [table.task.labels.index("rare") in row for row in table.splits["validation"]["labels"].to_pylist()]
    assert sum(rare) == 1
    assert table.splits["validation"].num_rows == 20
