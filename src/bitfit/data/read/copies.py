"""Reads known tasks from a local copy in the layout of the hub, or from the hub.

The layout is `<folder>/<config>/<split>-00000-of-00001.parquet`. A release is trusted in its texts (GLUE holds a few
empty ones) but not in its columns and types.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bitfit.data.catalog import Known
from bitfit.data.options import option
from bitfit.data.task import Task
from bitfit.errors import DataError, MissingExtraError
from bitfit.hub import asked_once

_ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
UNKNOWN = -1  # a class that is not known


@dataclass(frozen=True, eq=False)
class Copy:
    """The release's rows by our split names, and the label names that it states by column."""

    splits: Mapping[str, pa.Table]
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""  # where it was read from, for messages


def local_copy(known: Known, data_dir: Path) -> Copy:
    """The copy below a folder; refused with the places looked at where there is none."""
    if not data_dir.is_dir():
        raise DataError(f"The data folder {data_dir} is not there.")
    for folder in _folders(known, data_dir):
        paths_by_split = {split: shards(folder, known.release_name(split)) for split in known.split_names}
        paths_by_split = {split: paths for split, paths in paths_by_split.items() if paths}
        if paths_by_split:
            return _read(paths_by_split, str(folder))
    looked = ", ".join(str(folder) for folder in _folders(known, data_dir))
    raise DataError(
        f"No copy of '{known.task.name}' in {data_dir}: expected files such as "
        f"train-00000-of-00001.parquet in one of {looked}."
    )


def has_local_copy(known: Known, data_dir: Path) -> bool:
    """Whether the folder holds anything of the task."""
    return any(
        shards(folder, known.release_name(split)) for folder in _folders(known, data_dir) for split in known.split_names
    )


def shards(folder: Path, split: str) -> list[Path]:
    """The parquet files of a split in one folder, in order."""
    return sorted([*folder.glob(f"{split}-*-of-*.parquet"), *folder.glob(f"{split}.parquet")])


def hub_copy(name: str, config: str, wanted: Mapping[str, str] | None = None) -> Copy:
    """A data set of the hub through `datasets`, never running its code; `wanted`: our splits to its own."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"Reading '{name}' from the hub", "datasets", "hub") from None
    try:
        with asked_once():
            loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # the library raises its own, the network's and the file system's kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"Could not read '{name}' from the hub: {reason.rstrip('.')}. "
            f"Without a network use {option('data_dir')} with a local copy, or the embedded tasks "
            "rotten-tomatoes and imdb."
        ) from error
    splits = wanted or {split: split for split in loaded}
    tables = {ours: _whole(loaded[theirs]) for ours, theirs in splits.items() if theirs in loaded}
    return Copy(tables, feature_names(next(iter(loaded.values())).features), f"hub {name}")


def _folders(known: Known, data_dir: Path) -> tuple[Path, ...]:
    below = data_dir / known.folder
    folders = [below / known.config, data_dir / known.config] if known.config else [below]
    if data_dir.name in {known.folder, known.config}:
        folders.append(data_dir)
    return tuple(folders)


def _read(paths_by_split: Mapping[str, Iterable[Path]], source: str) -> Copy:
    splits, names = {}, {}
    for split, paths in paths_by_split.items():
        parts = [read_parquet(path) for path in paths]
        names.update(stated_labels(parts[0].schema))
        try:
            splits[split] = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
        except pa.ArrowInvalid as error:
            raise DataError(f"The parts of {split} in {source} do not fit together: {error}") from error
    return Copy(splits, names, source)


def read_parquet(path: Path) -> pa.Table:
    """One parquet file; anything else under that name is refused."""
    try:
        return pq.ParquetFile(path).read()
    except MemoryError:  # Arrow's own is one of its exceptions too, and says nothing of the file
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error


def stated_labels(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Label names by column, where the hub's writer left them in the file's metadata."""
    try:
        stated = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: tuple(names) for name, entry in stated.items() if (names := _class_names(entry))}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _class_names(entry: Any) -> list[str] | None:
    inner = entry.get("feature", entry)
    names = inner.get("names") if isinstance(inner, dict) else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def feature_names(features: Any) -> dict[str, tuple[str, ...]]:
    """Label names by column, as the features of a data set have them."""
    named = {}
    for column, feature in features.items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            named[column] = tuple(names)
    return named


def _whole(split: Any) -> pa.Table:
    return split.flatten_indices().data.table.replace_schema_metadata(None)


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
