"""Reads and checks rows that need no label, for prediction: some, or a whole file.

A file is scanned one chunk at a time before anything is answered. Every problem is reported with its row and column, in
the same words as those of data to train on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bitfit.data.read.check import parted, texts_only, words_problem
from bitfit.data.read.chunk import NOT_UTF8, Chunk, refused, shown
from bitfit.data.read.formats import is_unicode, read_chunks
from bitfit.data.read.images import image_problem
from bitfit.data.task import Task
from bitfit.data.write.formats import common_type, type_of
from bitfit.errors import DataError, RequestError, nearest

Form = Literal["text", "words", "image"]
_TYPES = {"text": pa.string(), "words": pa.list_(pa.string()), "image": pa.large_binary()}
MOST_PROBLEMS = 1000  # after that the reading stops: the file is not what it should be


@dataclass(frozen=True)
class Inputs:
    """The columns that a task reads: their names in the task, their names in the rows, and what they hold."""

    texts: tuple[str, ...]
    columns: tuple[str, ...]
    form: Form = "text"

    @classmethod
    def of(cls, task: Task, images: bool = False, renamed: Mapping[str, str] | None = None) -> "Inputs":
        """A task's; `renamed` has the names in the rows by those in the task, where they differ."""
        given = dict(renamed or {})
        form: Form = "image" if images else "words" if task.kind == "tags" else "text"
        columns = tuple(given.pop(name, name) for name in task.texts)
        if given:
            raise RequestError(f"The task reads {', '.join(task.texts)}; found {', '.join(given)} to be renamed.")
        return cls(task.texts, columns, form)

    def absent(self, chunk: Chunk) -> list[str]:
        """Columns that the rows lack."""
        return [name for name in self.columns if name not in chunk.columns]

    def table(self, chunk: Chunk, problems: list[str]) -> pa.Table:
        """The rows as a task's encoder takes them; what is wrong is added to `problems`, its values are then empty."""
        if self.form == "text":
            columns: Mapping[str, list[Any]] = texts_only(chunk, self.columns, problems)
        else:
            read = _words if self.form == "words" else _image
            numbers = range(len(chunk))
            columns = {name: [_good(read, chunk, i, name, problems) for i in numbers] for name in self.columns}
        pairs = zip(self.texts, self.columns, strict=True)
        return pa.table({text: pa.array(columns[column], _TYPES[self.form]) for text, column in pairs})


class _UnusableError(Exception):
    """What is wrong with one value."""


def _good(read: Any, chunk: Chunk, index: int, name: str, problems: list[str]) -> Any:
    try:
        return read(chunk.columns[name][index])
    except _UnusableError as wrong:
        problems.append(f"{chunk.where(index, name)}: {wrong}")
        return None


def _words(value: Any) -> list[str]:
    """The words of a sentence; a text is parted at its spaces."""
    words = list(value) if isinstance(value, tuple) else parted(value)
    wrong = words_problem(words)
    if wrong is not None:
        raise _UnusableError(wrong)
    assert isinstance(words, list)
    return words


def _image(value: Any) -> bytes:
    """An encoded image: its bytes, or those of the file that a path names."""
    if isinstance(value, str) and value:
        try:
            value = Path(value).read_bytes()
        except (OSError, ValueError) as error:
            raise _UnusableError(f"no image can be read from {shown(value)}: {error}") from error
    if not isinstance(value, bytes):
        raise _UnusableError(f"expected the path of an image, found {shown(value)}")
    wrong = image_problem(value)
    if wrong is not None:
        raise _UnusableError(wrong)
    return value


@dataclass
class Scan:
    """What was found in a file without problems."""

    rows: int = 0
    # Each column's type, in the order in which they appear; None where the values have none in common.
    types: dict[str, pa.DataType | None] = field(default_factory=dict)


def scan(path: Path, inputs: Inputs, rows: int) -> Scan:
    """Read and check all of it, so many rows at a time; every problem is reported, with its row and column."""
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
        "Name the file's own columns with `InputFile(renamed=...)`."
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
