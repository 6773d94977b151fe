"""Writes rows as CSV, JSON lines or Parquet, in parts that are then joined.

A value that a format has no word for is text in it: CSV has lists as JSON.
"""

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from bitfit.errors import RequestError, nearest
from bitfit.files import writing_whole

GROUP_BYTES = 16 << 20  # of a row group of the joined Parquet file, before compression

Rows = Mapping[str, Sequence[Any]]


class AnswerWriter(Protocol):
    """One format, for one set of columns."""

    @property
    def types(self) -> Mapping[str, pa.DataType | None]:
        """The columns in order; None where the values have no common type."""

    def encode(self, rows: Rows) -> bytes:
        """Some rows; those of all columns, in their order."""

    def join(self, parts: Sequence[Path], out: IO[bytes]) -> None:
        """The whole file, from its parts in order."""


@dataclass(frozen=True)
class CsvAnswers:
    """Text in columns, with a header."""

    types: Mapping[str, pa.DataType | None]

    def encode(self, rows: Rows) -> bytes:
        return _separated(zip(*rows.values(), strict=True))

    def join(self, parts: Sequence[Path], out: IO[bytes]) -> None:
        out.write(_separated([tuple(self.types)]))
        _end_to_end(parts, out)


@dataclass(frozen=True)
class JsonAnswers:
    """A JSON object on each line."""

    types: Mapping[str, pa.DataType | None]

    def encode(self, rows: Rows) -> bytes:
        lines = (dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True))
        return "".join(_json(line) + "\n" for line in lines).encode()

    def join(self, parts: Sequence[Path], out: IO[bytes]) -> None:
        _end_to_end(parts, out)


@dataclass(frozen=True)
class ParquetAnswers:
    """Typed columns; one whose values have no common type is text, each value as JSON."""

    types: Mapping[str, pa.DataType | None]

    @property
    def schema(self) -> pa.Schema:
        """The file's columns."""
        return pa.schema([(name, pa.string() if kind is None else kind) for name, kind in self.types.items()])

    def encode(self, rows: Rows) -> bytes:
        columns = [
            pa.array([_plain(value) for value in values] if self.types[name] is None else values, field.type)
            for (name, values), field in zip(rows.items(), self.schema, strict=True)
        ]
        file = io.BytesIO()
        pq.write_table(pa.table(columns, schema=self.schema), file)
        return file.getvalue()

    def join(self, parts: Sequence[Path], out: IO[bytes]) -> None:
        with pq.ParquetWriter(out, self.schema) as writer:
            waiting: list[pa.Table] = []
            for path in parts:
                waiting.append(pq.ParquetFile(path).read())
                if sum(table.nbytes for table in waiting) > GROUP_BYTES:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.concat_tables(waiting))


WRITERS: Mapping[str, Callable[[Mapping[str, pa.DataType | None]], AnswerWriter]] = {
    ".csv": CsvAnswers,
    ".jsonl": JsonAnswers,
    ".ndjson": JsonAnswers,
    ".parquet": ParquetAnswers,
}


def check_ending(path: Path) -> str:
    """The format's ending, refused where nothing is written under it."""
    ending = path.suffix.lower()
    if ending not in WRITERS:
        raise RequestError(f"Nothing is written as '{path.name}'. {nearest(ending, WRITERS)}")
    return ending


def write_rows(path: Path, rows: Rows) -> None:
    """Some rows as a whole file, in the format that its ending says."""
    writer = WRITERS[check_ending(path)]({name: type_of(values) for name, values in rows.items()})
    with TemporaryDirectory() as folder:
        part = Path(folder) / "rows"
        part.write_bytes(writer.encode(rows))
        with writing_whole(path) as file:
            writer.join([part], file)


def type_of(values: Sequence[Any]) -> pa.DataType | None:
    """The type that these values have in common, null where there are none; None where they have none."""
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None


def common_type(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    """The type that holds both; None where there is none."""
    if one is None or other is None:
        return None
    schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("value").type
    except pa.ArrowException:
        return None


def _separated(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_plain(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _plain(value: Any) -> Any:
    """A value as text: a text as it is, nothing for a missing one, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    text = _json(value)
    return json.loads(text) if text.startswith('"') else text


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    """JSON has no word for numbers that are not finite: null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _end_to_end(parts: Sequence[Path], out: IO[bytes]) -> None:
    for path in parts:
        with path.open("rb") as file:
            shutil.copyfileobj(file, out)
