"""Reads files of rows (CSV, TSV, JSON lines, Parquet) in chunks.

Where no encoding is given, bytes that are not UTF-8 come through as lone surrogates: the check of texts names their
row and column.
TSV has no quoting: a quote mark in it is a quote mark.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bitfit.data.read.chunk import NOT_UTF8, NOTHING_AFTER, Chunk, joined, shown
from bitfit.data.read.copies import stated_labels
from bitfit.data.read.treebank import read_bracketed, read_columns, read_conllu, read_slashed
from bitfit.data.text_format import DELIMITERS, TextFormat
from bitfit.errors import DataError, RequestError, nearest
from bitfit.files import strict_json

CHUNK = 4096  # rows
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff", "ÿþ", "þÿ")  # what UTF-16 begins with, read as UTF-8 and as latin-1
PLAIN = TextFormat()
LONGEST_FIELD = 100_000_000  # characters; the check of texts has a lower limit and a better message


def read_file(path: Path, written: TextFormat = PLAIN) -> Chunk:
    """All rows of one file."""
    return joined(list(read_chunks(path, CHUNK, written)))


def read_chunks(path: Path, rows: int = CHUNK, written: TextFormat = PLAIN) -> Iterator[Chunk]:
    """The rows of one file, so many at a time, at least one part (an empty one where there are no rows)."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is of a kind that bitfit does not read. {nearest(path.suffix, READERS)}")
    try:
        yield from reader(path, rows, written)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except UnicodeError as error:
        raise DataError(
            f"{path} cannot be read as {written.encoding}{_odd_byte(error)}. Name the encoding that it was written in."
        ) from error


def check_text_format(paths: Sequence[Path], written: TextFormat) -> None:
    """Refuse an encoding or a delimiter for which none of the files has a use."""
    endings = {path.suffix.lower() for path in paths} & set(READERS)
    separated = {".csv", ".tsv"}
    for name, value, kinds, known in (
        ("encoding", written.encoding, "files of text", set(READERS) - {".parquet"}),
        ("delimiter", written.delimiter, "CSV and TSV files", separated),
    ):
        if value is not None and endings and not endings & known:
            raise RequestError(
                f"`{name}={value!r}` can change nothing about {paths[0]}: it is for {kinds}. Leave it out."
            )


def _odd_byte(error: UnicodeError) -> str:
    if not isinstance(error, UnicodeDecodeError) or error.start >= len(error.object):
        return ""
    return f": it holds the byte 0x{error.object[error.start]:02x}"


def _read_separated(path: Path, rows: int, written: TextFormat, usual: str, quoting: Literal[0, 3]) -> Iterator[Chunk]:
    with written.open(path, newline="") as file:
        csv.field_size_limit(LONGEST_FIELD)
        line, delimiter = file.readline(), written.delimiter or usual
        strict = quoting != csv.QUOTE_NONE
        lines = csv.reader(chain([line], file), delimiter=delimiter, quoting=quoting, strict=strict)
        names = _header(path, lines, "" if written.delimiter else _other_delimiter(path, line, usual))
        first = 1
        while True:
            chunk, ended = _separated_part(path, lines, names, first, rows)
            if first == 1 or len(chunk) or chunk.problems:
                yield chunk
            if ended:
                return
            first += rows


def _header(path: Path, lines: Iterator[list[str]], other: str) -> list[str]:
    """The names of the columns; `other` is what to say of another delimiter, where there is one."""
    try:
        names = [name.strip() for name in next(lines, [])]
    except csv.Error as error:
        raise DataError(other or f"{path} has a header that cannot be read: {error}.") from error
    if not names or not all(names):
        raise DataError(f"{path} has no header: its first line must name every column; found {shown(names)}.")
    if any("\0" in name or not is_unicode(name) for name in names):
        likely = "utf-16" if names[0][:2] in _UTF16_MARKS else "latin-1"
        raise DataError(
            f"{path} is not UTF-8 (its header holds other bytes). Name its encoding, as in `encoding='{likely}'`."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} names a column twice: {', '.join(twice)}.")
    if len(names) == 1 and other:
        raise DataError(other)
    return names


def _other_delimiter(path: Path, line: str, usual: str) -> str:
    """What to say where the first line has its columns by another delimiter; empty where it has not."""
    found = {mark: _split_names(line, mark) for mark in DELIMITERS if mark != usual}
    mark = max(found, key=lambda one: len(found[one]))
    names = found[mark]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        return ""
    return (
        f"{path} has one column, {shown(line.strip())}, when split at {usual!r}. Split at {mark!r} it has "
        f"{len(names)}: {', '.join(names)}. Give `delimiter={mark!r}`."
    )


def _split_names(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


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
            problems.append(f"{path}, row {row:,}: {error}; {NOTHING_AFTER}")
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


def _read_csv(path: Path, rows: int, written: TextFormat) -> Iterator[Chunk]:
    return _read_separated(path, rows, written, ",", csv.QUOTE_MINIMAL)


def _read_tsv(path: Path, rows: int, written: TextFormat) -> Iterator[Chunk]:
    return _read_separated(path, rows, written, "\t", csv.QUOTE_NONE)


def _read_jsonl(path: Path, rows: int, written: TextFormat) -> Iterator[Chunk]:
    with written.open(path, newline="\n") as file:
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


def _read_parquet(path: Path, rows: int, _: TextFormat) -> Iterator[Chunk]:
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


def not_utf8(text: str) -> str:
    """What is wrong with a text that is not Unicode, as latin-1 has it: the likeliest of the others."""
    try:
        return f"{NOT_UTF8}{shown(text.encode('utf-8', 'surrogateescape').decode('latin-1'))} in latin-1"
    except UnicodeEncodeError:  # half of a pair, written as an escape of JSON
        return f"{NOT_UTF8}{shown(text)}"


READERS: Mapping[str, Callable[[Path, int, TextFormat], Iterator[Chunk]]] = {
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
