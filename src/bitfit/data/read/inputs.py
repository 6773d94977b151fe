"""Reads and checks rows that need no label, for prediction.

Every problem is told with its row and column, in the same words as those of data to train on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from bitfit.data.read.check import parted, texts_only, words_problem
from bitfit.data.read.chunk import Chunk, shown
from bitfit.data.read.images import image_problem
from bitfit.data.task import Task
from bitfit.errors import RequestError

Form = Literal["text", "words", "image"]
_TYPES = {"text": pa.string(), "words": pa.list_(pa.string()), "image": pa.large_binary()}


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
