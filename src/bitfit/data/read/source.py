"""From what a user names (a task, file, folder, data set or data in memory) to rows.

A known name is looked for in the data folder given, then in the embedded data, then on the hub.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bitfit.data.catalog import KNOWN, Known
from bitfit.data.options import OF_READING, DataOptions, option
from bitfit.data.read.copies import Copy, has_local_copy, hub_copy, known_rows, local_copy, to_task_table
from bitfit.data.read.embedded import SOURCES, reviews
from bitfit.data.read.formats import READERS
from bitfit.data.read.images import image_folder, is_image_folder
from bitfit.data.read.memory import Rows
from bitfit.data.read.own_rows import own_copy, own_files, own_memory
from bitfit.data.read.split import held_out_note, hold_out, sample
from bitfit.data.table import TaskTable
from bitfit.data.task import Task
from bitfit.data.text_format import TextFormat
from bitfit.errors import DataError, RequestError, nearest

DEFAULTS = DataOptions()
_HUB_NAME = re.compile(r"[\w-]+/[\w.-]+(:[\w.-]+)?")  # owner/name or owner/name:configuration


def load_task(data: str | Path | TaskTable | Rows, *, options: DataOptions = DEFAULTS) -> TaskTable:
    """The rows of a known task, of a file or folder, of a hub data set, or of data in memory."""
    if isinstance(data, TaskTable):
        return _finished(_with_options(data, options), options)
    if isinstance(data, str | Path):
        return _finished(_by_name(str(data), options), options)
    return _finished(own_memory(data, options), options)


def _by_name(name: str, options: DataOptions) -> TaskTable:
    if name in KNOWN:
        return _known(KNOWN[name], options)
    if is_image_folder(Path(name)):
        return image_folder(Path(name), options)
    if Path(name).exists():
        return own_files(Path(name), options)
    if _HUB_NAME.fullmatch(name) and Path(name).suffix.lower() not in READERS:
        dataset, _, config = name.partition(":")
        return own_copy(dataset.rpartition("/")[2], hub_copy(dataset, config), options)
    raise RequestError(f"No task, file or folder named '{name}'. {nearest(name, KNOWN)}")


def _with_options(table: TaskTable, options: DataOptions) -> TaskTable:
    """A table that is made already takes a length, a pooling and a size; its columns and kind are settled."""
    options.refuse("a TaskTable", (*OF_READING, "kind"))
    return replace(table, task=_resized(table.task, options))


def rows_to_answer(known: Known, split: str, options: DataOptions = DEFAULTS) -> pa.Table:
    """The rows of one test set of a known task, with labels or without, in the release's order."""
    copy = _copy(known, options)
    if split not in copy.splits:
        raise DataError(f"The copy of '{known.task.name}' in {copy.source} has no split '{known.release_name(split)}'.")
    rows = copy.splits[split]
    if "idx" in rows.column_names:
        rows = rows.sort_by("idx")
    return to_task_table(rows, known.task, copy.label_names, copy.source).select(list(known.task.texts))


def _known(known: Known, options: DataOptions) -> TaskTable:
    task = _adjusted(known.task, options)
    copy = _copy(known, options)
    if task.kind in ("class", "tags") and not task.labels:
        task = task.with_labels(_stated(copy, task))
    tables = {split: to_task_table(rows, task, copy.label_names, copy.source) for split, rows in copy.splits.items()}
    labelled, unlabelled = _parted(tables, task)
    if "train" not in labelled:
        raise DataError(f"The copy of '{task.name}' in {copy.source} has no train split.")
    notes = [f"{task.name}: read from {copy.source}"]
    if known.caution:
        notes.append(f"{task.name}: {known.caution}")
    if "validation" not in labelled:
        notes.append(_held_out(labelled, task))
        labelled = {split: labelled[split] for split in known.split_names if split in labelled}
    measured = _measured(labelled, known.official if copy.source != EMBEDDED else {}, notes)
    absent = [split for split in known.official if split not in copy.splits and split not in labelled]
    if absent and copy.source != EMBEDDED:
        notes.append(f"{task.name}: not in this copy: {', '.join(absent)}")
    return TaskTable(task, labelled, tuple(notes), unlabelled, measured)


EMBEDDED = "the embedded review data (not the official split)"


def _copy(known: Known, options: DataOptions) -> Copy:
    embedded = known.task.name in SOURCES
    if options.data_dir is not None and not (embedded and not has_local_copy(known, options.data_dir)):
        return local_copy(known, options.data_dir)
    if embedded:
        return Copy(reviews(known.task.name), source=EMBEDDED)
    if not known.hub:
        raise DataError(
            f"'{known.task.name}' is not on the hub in a form that loads without running code. "
            f"Give {option('data_dir')} with a folder '{known.folder}' in the hub's layout, or the files themselves."
        )
    return hub_copy(known.hub, known.config, {split: known.release_name(split) for split in known.split_names})


def _adjusted(task: Task, options: DataOptions) -> Task:
    given = [
        option(name) for name in ("text", "text_pair", "label", "label_separator") if getattr(options, name) is not None
    ]
    if given:
        raise RequestError(f"'{task.name}' has fixed columns; {', '.join(given)} is for data of your own.")
    if options.name is not None:
        raise RequestError(f"'{task.name}' has a name; {option('name')} is for data of your own.")
    if options.kind is not None and options.kind != task.kind:
        raise RequestError(f"'{task.name}' is a task of kind '{task.kind}', not '{options.kind}'.")
    TextFormat.of(options).refuse(f"the task '{task.name}'")
    if options.skip_bad_rows:
        raise RequestError(f"'{task.name}' is read whole; {option('skip_bad_rows', True)} is for data of your own.")
    label = options.tags if options.tags is not None and task.kind == "tags" else task.label
    return _resized(replace(task, label=label), options)


def _resized(task: Task, options: DataOptions) -> Task:
    length = options.max_length or task.max_length
    return replace(task, max_length=length, stride=min(task.stride, length // 3), pool=options.pool or task.pool)


def _stated(copy: Copy, task: Task) -> tuple[str, ...]:
    if task.label in copy.label_names:
        return copy.label_names[task.label]
    raise DataError(
        f"The copy of '{task.name}' in {copy.source} names no labels for a column '{task.label}'; "
        f"columns with label names: {', '.join(copy.label_names) or 'none'}."
    )


def _parted(tables: dict[str, pa.Table], task: Task) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    labelled, unlabelled = {}, {}
    for split, rows in tables.items():
        known = known_rows(rows, task)
        if task.name == "stsb" and split == "test":  # its release writes -1.0 for every unknown score
            known = rows[task.label].to_numpy() >= 0
        if known.all() and rows.num_rows:
            labelled[split] = rows
        elif not known.any():
            unlabelled[split] = rows
        else:
            first = int(np.flatnonzero(~known)[0]) + 1
            raise DataError(f"'{task.name}', {split}: row {first} has a label that is not one of its labels.")
    return labelled, unlabelled


def _held_out(splits: dict[str, pa.Table], task: Task) -> str:
    classes = splits["train"][task.label].to_numpy() if task.kind == "class" else None
    splits["train"], splits["validation"] = hold_out(splits["train"], classes)
    return held_out_note(splits["validation"], classes is not None)


def _measured(splits: dict[str, pa.Table], official: object, notes: list[str]) -> dict[str, str]:
    sizes = official if isinstance(official, dict) else {}
    measured = {}
    for split, rows in splits.items():
        whole = sizes.get(split, rows.num_rows)
        partial = rows.num_rows != whole and not _was_held_out(split, sizes)
        measured[split] = f"{rows.num_rows:,} of {whole:,}" if partial else f"{rows.num_rows:,}"
        if partial:
            notes.append(f"{split}: {measured[split]}")
    return measured


def _was_held_out(split: str, official: dict[str, int]) -> bool:
    return split == "train" and "validation" not in official


def _finished(table: TaskTable, options: DataOptions) -> TaskTable:
    train = table.splits.get("train")
    if train is None or options.train_size is None or options.train_size >= train.num_rows:
        return table
    smaller = {**table.splits, "train": sample(train, options.train_size, options.seed)}
    drawn = f"train: {options.train_size:,} of {train.num_rows:,} rows, drawn by seed {options.seed}"
    measured = table.measured_on.get("train", f"{train.num_rows:,}")
    whole = measured.rpartition(" of ")[2]  # of a partial copy, the release's rows
    return replace(
        table,
        splits=smaller,
        notes=(*table.notes, drawn),
        measured_on={**table.measured_on, "train": f"{options.train_size:,} of {whole}"},
    )
