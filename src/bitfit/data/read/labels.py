"""What labels are called, and the labels of a text that has any number: lists, cells, columns of 0 and 1."""

import ast
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bitfit.data.read.chunk import Chunk, shown
from bitfit.data.task import COLUMN_EACH
from bitfit.errors import DataError, nearest
from bitfit.files import strict_json

_YES, _NO = ("1", "true"), ("0", "false")
_LONGEST_CELL = 10_000  # characters of a list that is written in a cell


def label_text(value: Any) -> str | None:
    """A label as its name; None where it is missing. A whole float (a column with gaps) is its whole number."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def holds_lists(values: Sequence[Any]) -> bool:
    """Whether most of a column's values are lists, or texts that a table program or JSON made of lists."""
    there = [value for value in values if label_text(value) is not None]
    lists = sum(isinstance(value, list) or _written_list(value) is not None for value in there)
    return lists > len(there) / 2


def as_list(value: Any, separator: str | None = None) -> Any:
    """The labels in one value: of a list its own, of a text those that the separator parts, else the text itself.

    A list that was written as a text, by JSON or by Python, is read as one. An empty text has no labels.
    """
    if not isinstance(value, str):
        return value if value is None or isinstance(value, list | dict | bytes) else [value]
    written = _written_list(value)
    if written is not None:
        return written
    parts = value.split(separator) if separator else [value]
    return [part.strip() for part in parts if part.strip()]


def _written_list(text: Any) -> list[Any] | None:
    """`["a", "b"]` as JSON has it, or `['a', 'b']` as Python does."""
    text = text.strip() if isinstance(text, str) else ""
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _LONGEST_CELL:
        return None
    for read in (strict_json, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list):
            return value
    return None


def is_indicator(values: Sequence[Any]) -> bool:
    """Whether a list is a vector of 0 and 1 and not of names: it has one of them twice."""
    numbers = [value for value in values if isinstance(value, int | float)]
    return len(numbers) == len(values) > len(set(numbers)) and set(numbers) <= {0, 1}


def gathered(chunk: Chunk, names: Sequence[str], *, optional: bool = False) -> Chunk:
    """The chunk with one column of lists in the place of these columns of 0 and 1.

    A row whose values are none of that is a problem and left out; one without any value has no list.
    """
    absent = [name for name in names if name not in chunk.columns]
    if optional and len(absent) == len(names):  # a file of texts to answer
        return chunk
    if absent:
        raise DataError(f"{chunk.source} has no column '{absent[0]}' of labels. {nearest(absent[0], chunk.columns)}")
    lists, good, problems = [], [], list(chunk.problems)
    for index, values in enumerate(zip(*(chunk.columns[name] for name in names), strict=True)):
        texts = [(label_text(value) or "").lower() for value in values]
        wrong = next((at for at, text in enumerate(texts) if text not in (*_YES, *_NO)), None)
        if wrong is None or not any(texts):
            good.append(index)
            lists.append([name for name, text in zip(names, texts, strict=True) if text in _YES] or _none(texts))
        else:
            found = f"found {shown(values[wrong])}" if texts[wrong] else "the label is missing"
            problems.append(f"{chunk.where(index, names[wrong])}: expected 0 or 1, {found}")
    rest = chunk.only(good)
    columns = {name: values for name, values in rest.columns.items() if name not in names}
    stated = {**chunk.label_names, COLUMN_EACH: tuple(names)}
    return replace(rest, columns={**columns, COLUMN_EACH: lists}, label_names=stated, problems=problems)


def _none(texts: Sequence[str]) -> list[str] | None:
    """No labels; no list either where nothing is said of any."""
    return [] if any(texts) else None
