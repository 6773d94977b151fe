"""From a task by name, file or rows to examples for a backbone."""

from dataclasses import fields, replace
from pathlib import Path

from bitfit.backbone.load import Backbone
from bitfit.data.encode.encoder import tokenize
from bitfit.data.examples import TaskData
from bitfit.data.options import DataOptions, option
from bitfit.data.read.memory import Rows
from bitfit.data.read.source import load_task
from bitfit.data.table import TaskTable
from bitfit.errors import RequestError

# A task's name, a file or folder, or its rows in memory: a DataFrame, a Dataset or DatasetDict, a pyarrow.Table, a list
# of dicts, a dict of columns, a pair (texts, labels), or a dict of splits.
Data = str | Path | TaskTable | TaskData | Rows


def task_data(backbone: Backbone, task: Data, options: DataOptions) -> TaskData:
    """The task's examples, tokenized for this backbone."""
    if isinstance(task, TaskData):
        options.refuse("TaskData", [field.name for field in fields(options) if field.name != "seed"])
        return replace(task, task=task.task.on(backbone.pool_for(task.task.kind)))
    table = load_task(task, options=options)
    return tokenize(_readable(backbone, _pooled(backbone, table), options), backbone.reader)


def _pooled(backbone: Backbone, table: TaskTable) -> TaskTable:
    """What a head reads of a text settled: as asked, or as the backbone was made for, which is said where it differs
    from what the architecture's own head does."""
    pool = backbone.pool_for(table.task.kind)
    if table.task.pool is not None or pool == "first":
        return replace(table, task=table.task.on(pool))
    note = f"{table.task.name}: the head reads the {pool} of a text's tokens, for which '{backbone.name}' was made"
    return replace(table, task=table.task.on(pool), notes=(*table.notes, note))


def _readable(backbone: Backbone, table: TaskTable, options: DataOptions) -> TaskTable:
    """Texts cut where the model's positions end: a length that was asked for is refused, a task's own is lowered."""
    longest = backbone.longest_text
    if longest is None or table.task.max_length <= longest:
        return table
    if options.max_length is not None:
        raise RequestError(
            f"'{backbone.name}' reads texts of at most {longest} pieces; found a maximum length of "
            f"{options.max_length}. Give {option('max_length', longest)} or less."
        )
    note = f"{table.task.name}: texts are cut at {longest} pieces, the most that '{backbone.name}' reads"
    task = replace(table.task, max_length=longest)
    return replace(table, task=task, notes=(*table.notes, note))
