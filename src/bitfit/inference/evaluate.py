"""Scores a delta on a split of its own task, or on other data of the same shape."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bitfit.backbone.device import Device
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.data.catalog import KNOWN
from bitfit.data.examples import TaskData, digest
from bitfit.data.options import DataOptions, option
from bitfit.data.read.memory import SOURCE, Rows, has_splits
from bitfit.data.read.own_rows import ALL, labelled_rows
from bitfit.data.read.source import load_task
from bitfit.data.table import TaskTable
from bitfit.data.task import COLUMN_EACH, Task
from bitfit.delta.delta import Delta
from bitfit.errors import DataError, RequestError, nearest
from bitfit.inference.evaluation import Evaluation, ScoredRows, evaluation_of
from bitfit.inference.metrics import score
from bitfit.inference.predictor import Predictor
from bitfit.inference.task_data import Data, task_data
from bitfit.runtime.precision import Precision

PREFERRED = ("test", "validation")  # where no split is asked for: the first of them that has labels


def evaluate(
    backbone: Backbone | str | Path,
    delta: Delta,
    data: Data | None = None,
    split: str | None = None,
    *,
    options: DataOptions | Mapping[str, Any] | None = None,
    precision: Precision = "auto",
    device: Device = "auto",
) -> dict[str, float]:
    """Scores of a delta on its own task, or on other data of the same shape: a file, a known task, data in memory.

    Without a split, one file or table is scored whole, but of the very rows of the training only those that were held
    out for validation; of data that has splits, test where it is labelled, else validation. `evaluation` says which
    rows these were. Columns, lengths and pooling are those of the training where no others are asked for.
    """
    scored = _scored(as_backbone(backbone), delta, data, split, DataOptions.of(options), precision, device)
    return score(scored.task, scored.examples, scored.answers)


def evaluation(
    backbone: Backbone | str | Path,
    delta: Delta,
    data: Data | None = None,
    split: str | None = None,
    *,
    options: DataOptions | Mapping[str, Any] | None = None,
    precision: Precision = "auto",
    device: Device = "auto",
) -> Evaluation:
    """As `evaluate`, with the split, the number of rows and remarks: what the scores were measured on."""
    scored = _scored(as_backbone(backbone), delta, data, split, DataOptions.of(options), precision, device)
    return evaluation_of(scored, delta.temperature)


def _scored(
    backbone: Backbone,
    delta: Delta,
    data: Data | None,
    split: str | None,
    options: DataOptions,
    precision: Precision,
    device: Device,
) -> ScoredRows:
    """What `evaluation` looks at: the rows and the model's answers."""
    _refuse_idle(options, split, delta.task)
    asked = delta.task.name if data is None else str(data) if isinstance(data, Path) else data
    found = _data(backbone, delta, asked, split, options)
    read = found.data
    _check_same_answers(read.task, delta.task)
    chosen = _chosen(read, split)
    notes = list(read.notes)
    if split is None and chosen not in (PREFERRED[0], ALL):
        notes.append(f"'{read.task.name}' has no labelled split 'test': scored on '{chosen}'")
    examples = read.splits[chosen]
    outputs = Predictor(backbone, delta, precision, notes.append, device).outputs(examples)
    notes += _other_rows(delta, read, chosen)
    table = None if found.tables is None else found.tables[chosen]
    measured = _measured(read, chosen)
    return ScoredRows(delta.task, chosen, examples, outputs, measured, tuple(notes), table, delta.thresholds)


def _refuse_idle(options: DataOptions, split: str | None, task: Task) -> None:
    """Refuse options that could not change what is scored."""
    for name in ("pool", "kind"):
        given, trained = getattr(options, name), getattr(task, name)
        if given not in (None, trained):
            raise RequestError(f"The delta was trained with {name}={trained!r}; found {name}={given!r}. Leave it out.")
    if options.train_size is not None and split != "train":
        raise RequestError(
            f"{option('train_size', options.train_size)} shortens the rows of train alone; found "
            f"{f'`split={split!r}`' if split else 'no split'}. Leave it out, or score `split='train'`."
        )


def _chosen(data: TaskTable | TaskData, split: str | None) -> str:
    """The split that is asked for, or the preferred one that is there."""
    chosen = split or next((name for name in PREFERRED if name in data.splits), next(iter(data.splits)))
    if chosen not in data.splits:
        raise RequestError(
            f"The task '{data.task.name}' has no labelled split '{chosen}'. {nearest(chosen, data.splits)}"
        )
    return chosen


@dataclass(frozen=True, eq=False)
class _Found:
    """Tokenized data, and the rows that it was made of."""

    data: TaskData
    tables: Mapping[str, pa.Table] | None = None


def _read(backbone: Backbone, data: Data, split: str | None, options: DataOptions) -> _Found:
    """Only the split that is scored is tokenized: train may be a hundred times as large."""
    if isinstance(data, TaskData):
        return _Found(task_data(backbone, data, options))
    table = load_task(data, options=options)
    chosen = _chosen(table, split)
    return _tokenized(backbone, replace(table, splits={chosen: table.splits[chosen]}), options)


def _tokenized(backbone: Backbone, table: TaskTable, options: DataOptions) -> _Found:
    return _Found(task_data(backbone, table, _of_length(options)), table.splits)


def _of_length(options: DataOptions) -> DataOptions:
    """What is left to say of a table that the rest of the options have made."""
    return DataOptions(max_length=options.max_length, pool=options.pool)


def _data(backbone: Backbone, delta: Delta, data: Data, split: str | None, options: DataOptions) -> _Found:
    """What to score on, read as in training: with the delta's lengths, pooling and, for own data, its columns."""
    task = delta.task
    if isinstance(data, TaskData):
        return _read(backbone, data, split, options)
    options = replace(options, max_length=options.max_length or task.max_length, pool=task.pool)
    if isinstance(data, str) and data in KNOWN and task.kind == "tags":
        options = replace(options, tags=options.tags or task.label)
    if isinstance(data, TaskTable) or (isinstance(data, str) and data in KNOWN):
        return _read(backbone, data, split, options)
    if isinstance(data, str) and data == task.name and not Path(data).exists():
        raise RequestError(
            f"The delta was trained on data of your own, '{data}', which it does not hold. Give the file, "
            "folder or rows again: `data=...`."
        )
    options = _with_columns(options, task)
    in_splits = not Path(data).is_file() if isinstance(data, str) else has_splits(data)
    if split is not None or in_splits:
        return _read(backbone, data, split, options)
    return _one_table(backbone, delta, data, options)


def _with_columns(options: DataOptions, task: Task) -> DataOptions:
    """The columns of a task, where no others are named."""
    if task.kind == "tags":
        return replace(options, kind="tags", tokens=options.tokens or task.texts[0], tags=options.tags or task.label)
    second = options.text_pair or (task.texts[1] if len(task.texts) > 1 else None)
    first, label = options.text or task.texts[0], options.label or task.label
    if label == COLUMN_EACH:
        label = task.labels
    return replace(options, kind=task.kind, text=first, text_pair=second, label=label)


def _one_table(backbone: Backbone, delta: Delta, data: str | Path | Rows, options: DataOptions) -> _Found:
    """All rows of a file or table; but of the very rows that the delta was trained on, those that were held out."""
    try:
        again = _read(backbone, data, None, options)
    except DataError:
        again = None  # too few rows, or too few labels, to train on
    if again is not None and digest(again.data.splits["validation"]) == _digests(delta).get("validation"):
        what = data if isinstance(data, str) else SOURCE
        notes = (*again.data.notes, f"{what} is what the delta was trained on")
        return replace(again, data=replace(again.data, notes=notes))
    named = replace(
        delta.task,
        texts=tuple(name for name in (options.tokens or options.text, options.text_pair) if name),
        label=options.tags or options.label_column or delta.task.label,
        max_length=options.max_length or delta.task.max_length,
    )
    return _tokenized(backbone, labelled_rows(data, named, options), options)


def _digests(delta: Delta) -> Mapping[str, str]:
    """What the delta knows of the parts that it was trained and chosen on."""
    known = delta.settings.get("data", {})
    return known if isinstance(known, dict) else {}


def _other_rows(delta: Delta, data: TaskData, split: str) -> list[str]:
    """Remarks on rows that are not those of training, or are those that it learnt from."""
    known, content = _digests(delta), digest(data.splits[split])
    if content == known.get("train"):
        return [f"'{split}' holds the rows that the delta was trained on: its scores flatter"]
    if split in known and content != known[split]:
        length = data.task.max_length
        cut = "" if length == delta.task.max_length else f", cut at {length} pieces and not at {delta.task.max_length}"
        why = f"another {option('data_dir')}, or files that were changed"
        return [f"'{split}' holds other rows than in training{cut}: {why}"]
    return []


def _check_same_answers(given: Task, wanted: Task) -> None:
    """Refuse data of another kind or with other labels."""
    if given.kind != wanted.kind:
        raise DataError(f"The delta answers a task of kind '{wanted.kind}'; the data is of kind '{given.kind}'.")
    if given.labels != wanted.labels:
        raise DataError(f"The delta answers with the labels {list(wanted.labels)}; the data has {list(given.labels)}.")


def _measured(data: TaskData, split: str) -> str:
    """Rows of a split, in the task's own words where it has them."""
    return data.measured_on.get(split, f"{len(data.splits[split]):,}")
