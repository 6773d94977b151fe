"""Reads files of rows (CSV, TSV, JSON lines, Parquet) in chunks.

Bytes that are not UTF-8 come through as lone surrogates: the check of texts names their row and column.
TSV has no quoting: a quote mark in it is a quote mark.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bitfit.data.read.chunk import Chunk, joined, shown
from bitfit.data.read.copies import stated_labels
from bitfit.data.read.treebank import read_bracketed, read_columns, read_conllu, read_slashed
from bitfit.errors import DataError, nearest
from bitfit.files import strict_json

CHUNK = 4096  # rows
LONGEST_FIELD = 100_000_000  # characters; the check of texts has a lower limit and a better message


def read_file(path: Path) -> Chunk:
    """All rows of one file."""
    return joined(list(read_chunks(path)))


def read_chunks(path: Path, rows: int = CHUNK) -> Iterator[Chunk]:
    """The rows of one file, so many at a time, at least one part (an empty one where there are no rows)."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is of a kind that bitfit does not read. {nearest(path.suffix, READERS)}")
    try:
        yield from reader(path, rows)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read_separated(path: Path, rows: int, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Chunk]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        csv.field_size_limit(LONGEST_FIELD)
        lines = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=quoting != csv.QUOTE_NONE)
        names = _header(path, lines, delimiter)
        first = 1
        while True:
            chunk, ended = _separated_part(path, lines, names, first, rows)
            if first == 1 or len(chunk) or chunk.problems:
                yield chunk
            if ended:
                return
            first += rows


def _header(path: Path, lines: Iterator[list[str]], delimiter: str) -> list[str]:
    try:
        names = [name.strip() for name in next(lines, [])]
    except csv.Error as error:
        raise DataError(f"{path} has a header that cannot be read: {error}.") from error
    if not names or not all(names):
        raise DataError(f"{path} has no header: its first line must name every column; found {shown(names)}.")
    if any("\0" in name or not is_unicode(name) for name in names):
        raise DataError(f"{path} is not UTF-8 (its header holds other bytes). Save it as UTF-8.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} names a column twice: {', '.join(twice)}.")
    other = next((mark for mark in ",;\t|" if mark != delimiter and mark in names[0]), None)
    if len(names) == 1 and other is not None:
        raise DataError(
            f"{path} has one column, {shown(names[0])}: expected columns parted by {delimiter!r}, "
            f"found {other!r}. Save it with {delimiter!r}, or with tabs under the name *.tsv."
        )
    return names


def _separated_part(
    path: Path, lines: Iterator[list[str]], names: list[str], first: int, rows: int
) -> tuple[Chunk, bool]:
    """The next rows, and whether the file ended; a row of another width is a problem and left out."""
    good: list[list[str]] = []
    numbers: list[int] = []
    problems: list[str] = []
    row, ended = first, False
    while row < first + rows:
        try:
            fields = next(lines)
        except StopIteration:
            ended = True
            break
        except csv.Error as error:
            problems.append(f"{path}, row {row:,}: {error}; nothing after it was read")
            ended = True
            break
        fields = fields or [""] * (len(names) == 1)  # an empty line of a single column is an empty value
        if fields and len(fields) != len(names):
            problems.append(f"{path}, row {row:,}: {len(names)} fields expected, {len(fields)} found")
        elif fields:
            good.append(fields)
            numbers.append(row)
        row += bool(fields)  # blank lines are no rows
    columns = {name: [fields[index] for fields in good] for index, name in enumerate(names)}
    return Chunk(str(path), columns, first, numbers, {}, problems), ended


def _read_csv(path: Path, rows: int) -> Iterator[Chunk]:
    return _read_separated(path, rows, ",", csv.QUOTE_MINIMAL)


def _read_tsv(path: Path, rows: int) -> Iterator[Chunk]:
    return _read_separated(path, rows, "\t", csv.QUOTE_NONE)


def _read_jsonl(path: Path, rows: int) -> Iterator[Chunk]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        numbered = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        first = True
        while chunk := list(islice(numbered, rows)):
            if first:
                _refuse_whole(path, chunk[0][1])
            yield _json_part(path, chunk)
            first = False
        if first:
            yield Chunk(str(path), {})


def _refuse_whole(path: Path, line: str) -> None:
    """A file that is one list or one object is told of once, and not for each of its lines."""
    opening = line.strip()
    if opening == "[" or opening.startswith("[{"):
        raise DataError(f"{path} is one JSON list. Save it as JSON lines: one object on each line, no brackets around.")
    if opening == "{":
        raise DataError(f"{path} has JSON over several lines. Save it as JSON lines: one whole object on each line.")


def _json_part(path: Path, lines: list[tuple[int, str]]) -> Chunk:
    good: list[dict[str, Any]] = []
    numbers: list[int] = []
    problems: list[str] = []
    for number, line in lines:
        try:
            good.append(_object(line))
            numbers.append(number)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}, row {number:,}: {error}; found {shown(line.strip())}")
    names = dict.fromkeys(name for row in good for name in row)
    columns = {name: [row.get(name) for row in good] for name in names}
    return Chunk(str(path), columns, lines[0][0], numbers, {}, problems)


def _object(line: str) -> dict[str, Any]:
    value = strict_json(line)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object on each line")
    return value


def _read_parquet(path: Path, rows: int) -> Iterator[Chunk]:
    first = 1
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(f"{path} names a column twice; its columns: {', '.join(names)}.")
        labels = stated_labels(file.schema_arrow)
        for batch in file.iter_batches(rows):
            columns = {name: python_values(column) for name, column in zip(names, batch, strict=True)}
            yield Chunk(str(path), columns, first, None, labels)
            first += batch.num_rows
        if first == 1:
            yield Chunk(str(path), {name: [] for name in names}, 1, None, labels)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error


def python_values(column: pa.Array) -> list[Any]:
    """An array as Python's values; bytes of a text that are not UTF-8 come as lone surrogates."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        binary = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in binary]
    values = column.to_pylist()
    assert isinstance(values, list)
    return values


def is_unicode(text: str) -> bool:
    """False where the text holds bytes that were no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


READERS: Mapping[str, Callable[[Path, int], Iterator[Chunk]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_jsonl,
    ".parquet": _read_parquet,
    ".conllu": read_conllu,
    ".conll": read_columns,
    ".iob": read_columns,
    ".bio": read_columns,
    ".txt": read_columns,
    ".pos": read_slashed,
    ".mrg": read_bracketed,
}
