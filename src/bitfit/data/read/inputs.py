"""Reads and checks rows that need no label, for prediction: some, or a whole file.

A file is scanned one chunk at a time before anything is answered. A row that cannot be used (an empty text) is counted
and gets no answer; what is wrong with the file is refused, with its row and column, in the words of data to train on.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bitfit.data.read.check import Problems, parted, text_problem, words_problem
from bitfit.data.read.chunk import Chunk, is_of_one_row, refused, shown
from bitfit.data.read.formats import PLAIN, check_text_format, is_unicode, not_utf8, read_chunks
from bitfit.data.read.images import image_problem
from bitfit.data.task import Task
from bitfit.data.text_format import TextFormat
from bitfit.data.write.formats import common_type, type_of
from bitfit.errors import DataError, RequestError, nearest

Form = Literal["text", "words", "image"]
_TYPES = {"text": pa.string(), "words": pa.list_(pa.string()), "image": pa.large_binary()}
MOST_NAMED = 3  # rows without an answer
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

    def table(self, chunk: Chunk) -> tuple[pa.Table, Problems]:
        """The rows as a task's encoder takes them, and what is wrong with some, whose values are then empty."""
        problems: Problems = []
        read = {"text": _text, "words": _words, "image": _image}[self.form]
        numbers = range(len(chunk))
        columns = {name: [_good(read, chunk, i, name, problems) for i in numbers] for name in self.columns}
        problems.sort(key=lambda one: one[0])  # row by row, not column by column
        pairs = zip(self.texts, self.columns, strict=True)
        return pa.table({text: pa.array(columns[column], _TYPES[self.form]) for text, column in pairs}), problems


class _UnusableError(Exception):
    """What is wrong with one value."""


def _good(read: Any, chunk: Chunk, index: int, name: str, problems: Problems) -> Any:
    try:
        return read(chunk.columns[name][index] if name in chunk.columns else None)
    except _UnusableError as wrong:
        problems.append((index, f"{chunk.where(index, name)}: {wrong}"))
        return None


def _text(value: Any) -> str:
    wrong = text_problem(value)
    if wrong is not None:
        raise _UnusableError(wrong)
    assert isinstance(value, str)
    return value


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
    """What was found in a file that can be answered."""

    rows: int = 0
    unusable: int = 0  # of them, those that get no answer
    first_unusable: list[str] = field(default_factory=list)  # what is wrong with some
    # Each column's type, in the order in which they appear; None where the values have none in common.
    types: dict[str, pa.DataType | None] = field(default_factory=dict)

    def unanswered(self, path: Path) -> str:
        """The note on rows that get no answer; empty where there are none."""
        if not self.unusable:
            return ""
        more = f"; and {self.unusable - len(self.first_unusable):,} more"
        listed = "; ".join(self.first_unusable) + (more if self.unusable > len(self.first_unusable) else "")
        return f"{path}: {self.unusable:,} of {self.rows:,} rows cannot be used and get an empty answer: {listed}"


def scan(path: Path, inputs: Inputs, rows: int, written: TextFormat = PLAIN) -> Scan:
    """Read and check all of it, so many rows at a time."""
    check_text_format([path], written)
    scanned, problems = Scan(), list[str]()
    stated = _stated_types(path)
    for chunk in read_chunks(path, rows, written):
        problems += chunk.problems
        _check(chunk, inputs, scanned, problems)
        scanned.rows += len(chunk)
        for name, values in chunk.columns.items():
            kind = _type(values, stated.get(name))
            scanned.types[name] = common_type(scanned.types.get(name, pa.null()), kind)
        if len(problems) > MOST_PROBLEMS:
            problems[MOST_PROBLEMS:] = [f"{path}: so many problems that nothing after them was read"]
            break
    if scanned.rows and (absent := [name for name in inputs.columns if name not in scanned.types]):
        problems.append(_absent(path, absent, scanned.types))
    if problems:
        raise refused(str(path), problems)
    if not scanned.rows:
        raise DataError(f"{path} has no rows.")
    if scanned.unusable == scanned.rows:
        raise DataError(f"None of the {scanned.rows:,} rows of {path} can be answered.", scanned.first_unusable)
    scanned.types = {name: pa.string() if kind == pa.null() else kind for name, kind in scanned.types.items()}
    return scanned


def _check(chunk: Chunk, inputs: Inputs, scanned: Scan, problems: list[str]) -> None:
    """Rows that get no answer are counted; what is wrong with the file is added to `problems`."""
    wrong = inputs.table(chunk)[1]
    problems += [problem for _, problem in wrong if not is_of_one_row(problem)]
    problems += _not_unicode(chunk, inputs.columns)
    single = dict(reversed([one for one in wrong if is_of_one_row(one[1])]))  # the first of each row
    scanned.unusable += len(single)
    room = MOST_NAMED - len(scanned.first_unusable)
    scanned.first_unusable += [single[index] for index in sorted(single)[:room]]


def _absent(path: Path, names: list[str], known: Iterable[str]) -> str:
    what = ", ".join(map(repr, names))
    return (
        f"{path}: no column {what}. {nearest(names[0], known)} "
        "Name the file's own columns with `InputFile(renamed=...)`."
    )


def _not_unicode(chunk: Chunk, checked: tuple[str, ...]) -> Iterator[str]:
    """Problems of the columns that are only carried along: they are written again, which takes Unicode."""
    for name, values in chunk.columns.items():
        for index, value in enumerate(values if name not in checked else ()):
            if isinstance(value, str) and not is_unicode(value):
                yield f"{chunk.where(index, name)}: {not_utf8(value)}"


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
