"""Rows come back from each format as they went in, whatever the parts; types that hold all values."""

import csv
import datetime
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitfit.data.write.formats import WRITERS, check_ending, common_type, type_of
from bitfit.errors import RequestError

ROWS: dict[str, list[Any]] = {
    "text": ["a, b", 'say "no"', "two\nlines", "", None],
    "number": [1, 2, None, 4, 5],
    "share": [0.5, float("nan"), None, 1e-9, 2.0],
    "list": [["a", None], [], None, ["b"], ["c"]],
    "day": [datetime.date(2024, 1, 2)] * 5,
    "mixed": [1, "one", None, [2], True],
}
TYPES = {name: type_of(values) for name, values in ROWS.items()}


def written(ending: str, folder: Path, size: int) -> bytes:
    """The file, from parts of so many rows."""
    writer, out, parts = WRITERS[ending](TYPES), io.BytesIO(), []
    for start in range(0, 5, size):
        parts.append(folder / str(start))
        parts[-1].write_bytes(writer.encode({name: values[start : start + size] for name, values in ROWS.items()}))
    writer.join(parts, out)
    return out.getvalue()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_csv(tmp_path: Path, size: int) -> None:
    header, *rows = csv.reader(io.StringIO(written(".csv", tmp_path, size).decode(), newline=""))
    assert header == list(ROWS)
    assert [row[0] for row in rows] == ["a, b", 'say "no"', "two\nlines", "", ""]
    assert rows[0] == ["a, b", "1", "0.5", '["a", null]', "2024-01-02", "1"]
    assert [row[5] for row in rows] == ["1", "one", "", "[2]", "true"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_json_lines(tmp_path: Path, size: int) -> None:
    rows = [json.loads(line) for line in written(".jsonl", tmp_path, size).decode().splitlines()]
    assert [list(row) for row in rows] == [list(ROWS)] * 5
    assert [row["mixed"] for row in rows] == ROWS["mixed"]
    assert [row["share"] for row in rows] == [0.5, None, None, 1e-9, 2.0]  # JSON has no word for NaN


@pytest.mark.parametrize("size", [1, 2, 5])
def test_parquet(tmp_path: Path, size: int) -> None:
    table = pq.read_table(io.BytesIO(written(".parquet", tmp_path, size)))
    assert table.schema.types == [
        pa.string(),
        pa.int64(),
        pa.float64(),
        pa.list_(pa.string()),
        pa.date32(),
        pa.string(),
    ]
    assert table["mixed"].to_pylist() == ["1", "one", None, "[2]", "true"]
    for name in ("text", "number", "list", "day"):
        assert table[name].to_pylist() == ROWS[name]


def test_parquet_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitfit.data.write.formats.GROUP_BYTES", 1)
    assert pq.ParquetFile(io.BytesIO(written(".parquet", tmp_path, 1))).num_row_groups == 5


def test_common_types() -> None:
    assert common_type(pa.null(), pa.int64()) == pa.int64()
    assert common_type(pa.int64(), pa.float64()) == pa.float64()
    assert common_type(pa.string(), pa.int64()) is None
    assert common_type(None, pa.int64()) is None
    assert type_of([1, "a"]) is None
    assert type_of([1 << 70]) is None


def test_other_endings_are_refused() -> None:
    assert check_ending(Path("A.CSV")) == ".csv"
    with pytest.raises(RequestError, match=r"Nothing is written as 'a.cvs'. Did you mean '.csv'\?"):
        check_ending(Path("a.cvs"))
