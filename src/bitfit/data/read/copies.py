"""Reads known tasks from a local copy in the layout of the hub, or from the hub.

Knows the layout (`<folder>/<config>/<split>-00000-of-00001.parquet`), not what the columns mean.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bitfit.data.catalog import Known
from bitfit.errors import DataError, MissingExtraError
from bitfit.hub import asked_once


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
            "Without a network use --data-dir with a local copy, "
            "or the embedded tasks rotten-tomatoes and imdb."
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
