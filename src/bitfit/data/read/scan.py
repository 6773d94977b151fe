"""Scans a whole file before anything is done with it: size, columns, what is wrong.

One chunk is in memory at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bitfit.data.read.chunk import NOT_UTF8, Chunk, refused, shown
from bitfit.data.read.formats import is_unicode, read_chunks
from bitfit.data.read.inputs import Inputs
from bitfit.data.write.formats import common_type, type_of
from bitfit.errors import DataError, nearest

MOST_PROBLEMS = 1000  # after that the reading stops: the file is not what it should be


@dataclass
class Scan:
    """What was found in a file without problems."""

    rows: int = 0
    # Each column's type, in the order in which they appear; None where the values have none in common.
    types: dict[str, pa.DataType | None] = field(default_factory=dict)


def scan(path: Path, inputs: Inputs, rows: int) -> Scan:
    """Read and check all of it, so many rows at a time; every problem is told together, with its row and column."""
    scanned, problems = Scan(), list[str]()
    stated = _stated_types(path)
    for chunk in read_chunks(path, rows):
        problems += chunk.problems
        absent = inputs.absent(chunk)
        if absent and (scanned.rows == 0 or len(chunk)):
            problems.append(_absent(chunk, absent))
        elif len(chunk):
            inputs.table(chunk, problems)
            problems += _not_unicode(chunk, inputs.columns)
        scanned.rows += len(chunk)
        for name, values in chunk.columns.items():
            kind = _type(values, stated.get(name))
            scanned.types[name] = common_type(scanned.types.get(name, pa.null()), kind)
        if len(problems) > MOST_PROBLEMS:
            problems[MOST_PROBLEMS:] = [f"{path}: so many problems that nothing after them was read"]
            break
    if problems:
        raise refused(str(path), problems)
    if not scanned.rows:
        raise DataError(f"{path} has no rows.")
    scanned.types = {name: pa.string() if kind == pa.null() else kind for name, kind in scanned.types.items()}
    return scanned


def _absent(chunk: Chunk, names: list[str]) -> str:
    what = ", ".join(map(repr, names))
    where = chunk.where(0) if len(chunk) else chunk.source
    return (
        f"{where}: no column {what}. {nearest(names[0], chunk.columns)} "
        "Name the file's own columns with --text, --text-pair or --tokens."
    )


def _not_unicode(chunk: Chunk, checked: tuple[str, ...]) -> Iterator[str]:
    """Problems of the columns that are only carried along: they are written again, which takes Unicode."""
    for name, values in chunk.columns.items():
        for index, value in enumerate(values if name not in checked else ()):
            if isinstance(value, str) and not is_unicode(value):
                yield f"{chunk.where(index, name)}: {NOT_UTF8}{shown(value)}"


def _stated_types(path: Path) -> dict[str, pa.DataType]:
    """The types that a Parquet file states; other files state none."""
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return {}
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return {}  # told better when it is read
    return {
        each.name: each.type.value_type if pa.types.is_dictionary(each.type) else each.type
        for each in schema
        if each.type
    }


def _type(values: Any, stated: pa.DataType | None) -> pa.DataType | None:
    if stated is not None:
        try:
            pa.array(values, stated)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
            return type_of(values)
        return stated
    return type_of(values)
