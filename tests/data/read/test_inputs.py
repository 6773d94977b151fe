"""A file is looked through whole: rows and types found, every problem named, reading stopped where all is wrong."""

from pathlib import Path

import pyarrow as pa
import pytest

from bitfit.data.read.inputs import MOST_PROBLEMS, Inputs, scan
from bitfit.data.task import Task
from bitfit.errors import DataError, RequestError

TASK = Task("t", "class", ("text",), "label", ("no", "yes"))


def test_rows_and_types(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": null}\n{"text": "b", "n": 1, "none": null}\n{"text": "c", "n": 2.5}\n')
    found = scan(path, Inputs.of(TASK), 1)
    assert found.rows == 3
    assert found.types == {"text": pa.string(), "n": pa.float64(), "none": pa.string()}


def test_problems_of_all_parts_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"other": 1}\nno json\n{"text": 5}\nnor this\n')
    with pytest.raises(DataError, match="2 problems") as caught:
        scan(path, Inputs.of(TASK), 1)
    assert "row 3: Expecting value" in str(caught.value)
    assert "row 5: Expecting value" in str(caught.value)


@pytest.mark.parametrize("size", [1, 10])
def test_rows_without_a_usable_text_are_counted_whatever_the_parts(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"other": 1}\n{"text": "a"}\n{"text": 5}\n{"text": " "}\n{"other": 1}\n')
    found = scan(path, Inputs.of(TASK), size)
    assert (found.rows, found.unusable) == (5, 4)
    note = found.unanswered(path)
    assert "4 of 5 rows cannot be used and get an empty answer" in note
    assert "row 1, column 'text': the text is missing; " in note
    assert "row 3, column 'text': expected a text, found 5; " in note
    assert "row 4, column 'text': the text is empty; and 1 more" in note


def test_a_file_without_the_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"other": 1}\n' * 3)
    with pytest.raises(DataError, match=r"no column 'text'\. Known: other"):
        scan(path, Inputs.of(TASK), 1)


def test_rows_are_counted_once_and_told_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("one,two\n,b\na,\n,\n")
    task = Task("pair", "number", ("one", "two"), "n")
    with pytest.raises(DataError, match="None of the 3 rows") as caught:
        scan(path, Inputs.of(task), 10)
    assert [problem.split(", ")[1] for problem in caught.value.problems] == ["row 1", "row 2", "row 3"]


def test_reading_stops_where_all_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("no json\n" * (5 * MOST_PROBLEMS))
    with pytest.raises(DataError, match="1,001 problems") as caught:
        scan(path, Inputs.of(TASK), 100)
    assert len(caught.value.problems) < 30


def test_a_file_without_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n")
    with pytest.raises(DataError, match="has no rows"):
        scan(tmp_path / "a.csv", Inputs.of(TASK), 10)


def test_only_columns_of_the_task_are_renamed() -> None:
    assert Inputs.of(TASK, renamed={"text": "body"}).columns == ("body",)
    with pytest.raises(RequestError, match="The task reads text; found title to be renamed"):
        Inputs.of(TASK, renamed={"title": "body"})
