"""Brings the rows of a known release into the shape of a TaskTable.

A release is trusted in its texts (GLUE holds a few empty ones) but not in its columns and types.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bitfit.data.task import Task
from bitfit.errors import DataError

_ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
UNKNOWN = -1  # a class that is not known


def to_task_table(table: pa.Table, task: Task, names: Mapping[str, tuple[str, ...]], source: str) -> pa.Table:
    """The task's columns alone, in its order and types."""
    extra = ["id"] if task.kind == "span" else []
    wanted = [*task.texts, task.label, *extra]
    absent = [column for column in wanted if column not in table.column_names]
    if absent:
        raise DataError(
            f"The copy of '{task.name}' in {source} lacks the columns {', '.join(absent)}; "
            f"it has {', '.join(table.column_names)}."
        )
    try:
        columns = [*_texts(table, task), _label(table[task.label], task, names.get(task.label, ()))]
        columns += [table[column].cast(pa.string()) for column in extra]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"The copy of '{task.name}' in {source} has a column of another type: {error}") from error
    return pa.table(dict(zip(wanted, columns, strict=True)))


def known_rows(table: pa.Table, task: Task) -> NDArray[np.bool_]:
    """True for each row whose label is known."""
    label = table[task.label]
    if task.kind == "class":
        return np.asarray(label.to_numpy() >= 0)
    if task.kind == "number":
        return np.asarray(~np.isnan(label.to_numpy()))
    return np.asarray(pc.is_valid(label).to_numpy())


def _texts(table: pa.Table, task: Task) -> list[pa.ChunkedArray]:
    kind = pa.list_(pa.string()) if task.kind == "tags" else pa.string()
    return [pc.fill_null(table[column].cast(kind), [] if task.kind == "tags" else "") for column in task.texts]


def _label(column: pa.ChunkedArray, task: Task, stated: tuple[str, ...]) -> pa.ChunkedArray:
    if task.kind == "number":
        return column.cast(pa.float32())
    if task.kind == "span":
        return column.cast(_ANSWERS)
    if task.kind == "class":
        return pa.chunked_array([indices(column, task.labels, stated)])
    flat = column.combine_chunks()
    inner = indices(pa.chunked_array([flat.flatten()]), task.labels, stated)
    lengths = pc.fill_null(pc.list_value_length(flat), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), inner)])


def indices(column: pa.ChunkedArray, labels: tuple[str, ...], stated: tuple[str, ...]) -> pa.Array:
    """Label names or the release's numbers as indices into `labels`; UNKNOWN where neither."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        matches = pc.index_in(column.cast(pa.string()), value_set=pa.array(labels, pa.string()))
        return _combined(pc.fill_null(matches.cast(pa.int64()), UNKNOWN))
    numbers = pc.fill_null(column.cast(pa.int64()), UNKNOWN).to_numpy()
    order = np.arange(len(labels))
    if stated and stated != labels and set(stated) == set(labels):
        order = np.array([labels.index(name) for name in stated])
    inside = (numbers >= 0) & (numbers < len(labels))
    return pa.array(np.where(inside, order[np.where(inside, numbers, 0)], UNKNOWN), pa.int64())


def _combined(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
