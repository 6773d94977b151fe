"""Reads data in memory: data frames, Arrow tables, data sets, dicts, lists of dicts, pairs.

The libraries that such objects come from are never imported: an object is known by what it can do.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from bitfit.data.options import DataOptions
from bitfit.data.read.chunk import Chunk, shown
from bitfit.data.read.copies import feature_names, stated_labels
from bitfit.data.read.formats import python_values
from bitfit.data.read.split import split_of
from bitfit.errors import DataError, RequestError

NAME, SOURCE = "in-memory", "the data"  # of a task whose rows have no file: its name, and what messages call the rows
FORMS = (
    "a DataFrame, a Dataset or DatasetDict, a pyarrow.Table, a list of dicts, a dict of columns, a pair "
    "(texts, labels), or a dict of splits"
)
_AS_THEY_ARE = (str, int, bool, bytes, type(None))


class Indexed(Protocol):
    """What data frames, tables and data sets have in common with lists and dicts."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


Rows = Mapping[str, Any] | Iterable[Any] | Indexed


def is_table(data: object) -> bool:
    """Whether rows can be read from this; a single column, a text or a path is no table."""
    if isinstance(data, Mapping) or _is_frame(data) or _is_pair(data):
        return True
    return isinstance(data, list) and bool(data) and isinstance(data[0], Mapping)


def has_splits(data: object) -> bool:
    """Whether this is a dict of tables by the names of their splits, as a DatasetDict is."""
    if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
        return False
    named = any(split_of(name) or _is_frame(table) for name, table in data.items())
    return named and all(map(is_table, data.values()))


def chunks_by_split(data: object, options: DataOptions) -> tuple[dict[str, list[Chunk]], tuple[str, ...]]:
    """Our split -> its rows, and notes; a table without splits is train."""
    if not has_splits(data):
        return {"train": [chunk_of(data, options)]}, ()
    assert isinstance(data, Mapping)
    chunks: dict[str, list[Chunk]] = {}
    for name, table in data.items():
        if (split := split_of(name)) is not None:
            chunks.setdefault(split, []).append(chunk_of(table, options, name))
    if "train" not in chunks:
        close = get_close_matches("train", data, n=1)
        hint = f" Did you mean 'train' by '{close[0]}'?" if close else ""
        raise DataError(f"{SOURCE} has no split 'train'; found {', '.join(data)}.{hint}")
    ignored = [name for name in data if split_of(name) is None]
    return chunks, (f"not read: {', '.join(ignored)}",) if ignored else ()


def chunk_of(data: object, options: DataOptions, source: str = SOURCE) -> Chunk:
    """The rows of one table. The two columns of a pair are called as the options name text and label."""
    if isinstance(data, Mapping):
        return _from_columns([(name, _listed(column)) for name, column in data.items()], source)
    if _is_pair(data):
        return _from_pair(data, options, source)
    if _is_frame(data):
        return _from_frame(data, source)
    if isinstance(data, list | tuple):
        return _from_rows(data, source)
    raise RequestError(f"Expected a task's name, a file or folder, or rows: {FORMS}; found {_kind(data)}.")


def plain(value: Any) -> Any:
    """A value as Python's own: numpy's numbers, texts and arrays; None for what pandas writes where nothing is."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if isinstance(value, float | np.floating):
        return None if value != value else float(value)
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, str | np.generic):
        return str(value) if isinstance(value, str) else value.item()
    return None if kind.__name__ in ("NAType", "NaTType") else value


def _is_frame(data: object) -> bool:
    """A table of named columns: pandas', polars', Arrow's or a Dataset. Their single columns have no such names."""
    names = ("columns", "column_names", "schema")
    return not isinstance(data, str | Path | Mapping) and any(hasattr(type(data), name) for name in names)


def _is_column(data: object) -> bool:
    if isinstance(data, str | bytes | Mapping) or _is_frame(data):
        return False
    return isinstance(data, list | tuple) or (hasattr(data, "__len__") and hasattr(data, "__getitem__"))


def _is_pair(data: object) -> bool:
    """(texts, labels): a tuple of two columns."""
    return isinstance(data, tuple) and len(data) == 2 and all(map(_is_column, data))


def _from_frame(data: Any, source: str) -> Chunk:
    if hasattr(data, "iloc"):  # pandas: by its own lists, since a column of objects need not have an Arrow type
        return _from_columns([(name, data.iloc[:, at].tolist()) for at, name in enumerate(data.columns)], source)
    labels: Mapping[str, tuple[str, ...]] = {}
    if hasattr(data, "with_format") and hasattr(data, "num_rows"):  # a Dataset, and no stream of one
        # The format applies its selection and order of rows.
        labels, data = feature_names(getattr(data, "features", None) or {}), data.with_format("arrow")[:]
    if not hasattr(data, "__arrow_c_stream__"):
        raise RequestError(f"Expected rows: {FORMS}; found {_kind(data)}, which gives none. Collect its rows first.")
    table = data if isinstance(data, pa.Table) else pa.table(data)
    columns = [
        (name, [value for array in column.chunks for value in python_values(array)])
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return _from_columns(columns, source, labels or stated_labels(table.schema))


def _from_columns(
    columns: Iterable[tuple[Any, list[Any]]], source: str, labels: Mapping[str, tuple[str, ...]] | None = None
) -> Chunk:
    table: dict[str, list[Any]] = {}
    for name, values in columns:
        if str(name) in table:
            raise DataError(f"{source} names a column twice: {name}.")
        table[str(name)] = [plain(value) for value in values]
    if len({len(values) for values in table.values()}) > 1:
        sizes = ", ".join(f"'{name}' has {len(values):,}" for name, values in table.items())
        raise DataError(f"The columns of {source} must be of one length: {sizes}.")
    return Chunk(source, table, label_names=labels or {})


def _from_rows(rows: list[Any] | tuple[Any, ...], source: str) -> Chunk:
    wrong = next((number for number, row in enumerate(rows, start=1) if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise RequestError(
            f"Expected each row as a dict, as in {{'text': ..., 'label': ...}}; row {wrong:,} is "
            f"{shown(rows[wrong - 1])}. Give texts and labels as a pair of lists: (texts, labels)."
        )
    names = dict.fromkeys(name for row in rows for name in row)
    return _from_columns([(name, [row.get(name) for row in rows]) for name in names], source)


def _from_pair(pair: Any, options: DataOptions, source: str) -> Chunk:
    """Texts with labels; each text may itself be a pair of texts, or the words that a list of tags goes with."""
    texts, labels = map(_listed, pair)
    if len(texts) != len(labels):
        raise DataError(f"{source} has {len(texts):,} texts and {len(labels):,} labels: expected as many of each.")
    if labels and isinstance(plain(labels[0]), list) and not _are_of_texts(texts, options):
        return _from_columns([(options.tokens or "tokens", texts), (options.tags or "tags", labels)], source)
    label = options.label_column or "label"
    if options.label_columns:
        return _from_matrix(texts, [plain(each) for each in labels], options, source)
    if not texts or isinstance(texts[0], str) or not isinstance(texts[0], list | tuple):
        return _from_columns([(options.text or "text", texts), (label, labels)], source)
    wrong = next((at for at, text in enumerate(texts) if not isinstance(text, list | tuple) or len(text) != 2), None)
    if wrong is not None:
        raise DataError(f"{source}, row {wrong + 1:,}: expected a pair of texts, found {shown(texts[wrong])}.")
    first, second = ([text[at] for text in texts] for at in (0, 1))
    names = (options.text or "text", options.text_pair or "text_pair")
    return _from_columns([(names[0], first), (names[1], second), (label, labels)], source)


def _are_of_texts(texts: list[Any], options: DataOptions) -> bool:
    """Whether lists of labels are those of whole texts, and not one for each word."""
    as_tags = options.kind == "tags" or options.tokens or options.tags
    return isinstance(texts[0], str) and not as_tags


def _from_matrix(texts: list[Any], rows: list[Any], options: DataOptions, source: str) -> Chunk:
    """Texts with a row of 0 and 1 each."""
    names = options.label_columns
    wrong = next((at for at, row in enumerate(rows) if not isinstance(row, list) or len(row) != len(names)), None)
    if wrong is not None:
        raise DataError(f"{source}, row {wrong + 1:,}: expected {len(names)} of 0 and 1, found {shown(rows[wrong])}.")
    columns = [(name, [row[at] for row in rows]) for at, name in enumerate(names)]
    return _from_columns([(options.text or "text", texts), *columns], source)


def _listed(column: Any) -> list[Any]:
    """A column's values; numpy, pandas and torch give Python's own by `tolist`."""
    if not _is_column(column):
        raise RequestError(f"Expected a column as a list of values; found {shown(column)}. Rows may be {FORMS}.")
    return list(column.tolist() if hasattr(column, "tolist") else column)


def _kind(data: object) -> str:
    return f"{shown(data)}, a {type(data).__name__}" if isinstance(data, str | int | float) else type(data).__name__
