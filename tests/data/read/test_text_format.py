"""Encodings and delimiters: read as they are said, proposed where they would help, refused where they are idle."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitfit.data.options import DataOptions
from bitfit.data.read.formats import read_file
from bitfit.data.read.images import image_arrays
from bitfit.data.read.source import load_task
from bitfit.data.text_format import TextFormat
from bitfit.errors import DataError, RequestError

ROWS = [("déjà vu", "oui"), ("jamais", "non")] * 6


def write(path: Path, encoding: str, delimiter: str) -> str:
    lines = [("text", "label"), *ROWS]
    path.write_text("\n".join(delimiter.join(line) for line in lines) + "\n", encoding=encoding)
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(("encoding", "delimiter"), [("latin-1", ";"), ("utf-16", "|"), ("utf-8-sig", ";")])
def test_what_is_said_is_read(tmp_path: Path, suffix: str, encoding: str, delimiter: str) -> None:
    path = write(tmp_path / f"mine{suffix}", encoding, delimiter)
    table = load_task(path, options=DataOptions(encoding=encoding, delimiter=delimiter))
    assert set(table.splits["train"]["text"].to_pylist()) == {"déjà vu", "jamais"}
    assert table.task.labels == ("non", "oui")


def test_a_foreign_encoding_is_one_problem_with_one_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_task(write(tmp_path / "mine.csv", "latin-1", ","))
    assert len(caught.value.problems) == 1
    assert "row 1, column 'text': not UTF-8: 'déjà vu' in latin-1; 5 more of its values" in caught.value.problems[0]
    assert "name it, as in `encoding='latin-1'`" in caught.value.problems[0]


@pytest.mark.parametrize("skip", [False, True])
def test_labels_in_a_foreign_encoding_are_told_as_such_and_not_as_too_few(tmp_path: Path, skip: bool) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,label\n" + "a,gut\nb,übel\n" * 6, encoding="latin-1")
    with pytest.raises(DataError) as caught:
        load_task(str(path), options=DataOptions(skip_bad_rows=skip))
    assert len(caught.value.problems) == 1
    assert "row 2, column 'label': not UTF-8: 'übel' in latin-1; 5 more" in caught.value.problems[0]


def test_a_treebank_has_an_encoding_too(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("déjà X\nvu Y\n", encoding="latin-1")
    assert read_file(path, TextFormat("latin-1")).columns["tokens"] == [["déjà", "vu"]]


def test_the_wrong_encoding_is_told_by_its_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", "latin-1", ",")
    with pytest.raises(DataError, match="cannot be read as ascii: it holds the byte 0xe9"):
        load_task(path, options=DataOptions(encoding="ascii"))
    with pytest.raises(DataError, match="cannot be read as utf-16"):
        load_task(path, options=DataOptions(encoding="utf-16"))
    path = write(tmp_path / "wide.csv", "utf-16", ",")
    with pytest.raises(DataError, match=r"its header holds other bytes.*`encoding='utf-16'`"):
        load_task(path, options=DataOptions(encoding="latin-1"))


@pytest.mark.parametrize(
    ("header", "mark", "names"),
    [
        ("text;label;n", ";", "3: text, label, n"),
        ('"text";"label"', ";", "2: text, label"),
        ("text\tlabel", "\t", "2: text, label"),
        ("a|text;label;n", ";", "3: a|text, label, n"),
    ],
)
def test_the_delimiter_that_finds_columns_is_proposed(tmp_path: Path, header: str, mark: str, names: str) -> None:
    (tmp_path / "mine.csv").write_text(f"{header}\nx{mark}y\n")
    with pytest.raises(DataError) as caught:
        load_task(str(tmp_path / "mine.csv"))
    assert f"Split at {mark!r} it has {names}. Give `delimiter={mark!r}`." in str(caught.value)


def test_one_column_with_a_mark_in_its_name_is_one_column(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    for header, written in (("text;", TextFormat()), ("a;a", TextFormat()), ("text;label", TextFormat(delimiter=","))):
        path.write_text(f"{header}\nx\n")
        assert list(read_file(path, written).columns) == [header]


@pytest.mark.parametrize("encoding", ["latn1", "base64", "rot13", "undefined", "a\0b", "", 8])
def test_what_is_no_encoding(encoding: Any) -> None:
    with pytest.raises(RequestError, match=r"There is no encoding .*Expected one that Python reads"):
        DataOptions(encoding=encoding)


@pytest.mark.parametrize("delimiter", ["", ";;", "\n", '"', "\\t", 3])
def test_what_is_no_delimiter(delimiter: Any) -> None:
    with pytest.raises(RequestError, match="Expected one character as delimiter"):
        DataOptions(delimiter=delimiter)


def test_idle_options_are_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": ["b"]}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "b"}\n')
    rows = {"text": list("abcd"), "label": list("xyxy")}
    for data, given, words in (
        (str(tmp_path / "a.parquet"), {"encoding": "latin-1"}, "`encoding='latin-1'` .*it is for files of text"),
        (str(tmp_path / "a.jsonl"), {"delimiter": ";"}, "`delimiter=';'` .*it is for CSV and TSV files"),
        (rows, {"encoding": "latin-1", "delimiter": ";"}, "`encoding='latin-1'` and `delimiter=';'` .*rows in memory"),
        ("rotten-tomatoes", {"delimiter": ";"}, "the task 'rotten-tomatoes', which is no file of text. Leave it out"),
        (load_task(rows), {"encoding": "latin-1"}, r"`DataOptions\(encoding=\.\.\.\)` .*a TaskTable"),
    ):
        with pytest.raises(RequestError, match=words):
            load_task(data, options=DataOptions(**given))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"`DataOptions\(skip_bad_rows=\.\.\.\)` .*images in arrays"):
        image_arrays("x", {"train": (np.zeros((1, 2, 2, 3), np.uint8), ["a"])}, DataOptions(skip_bad_rows=True))


def test_a_folder_takes_what_any_of_its_files_takes(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "utf-8", ";")
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": "oui"}\n')
    assert load_task(str(tmp_path), options=DataOptions(delimiter=";")).splits["test"].num_rows == 1
