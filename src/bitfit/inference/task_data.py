"""A task by its name, its file or its rows becomes examples that a backbone can read."""

from dataclasses import replace
from pathlib import Path

from bitfit.backbone.load import Backbone
from bitfit.backbone.longest_text import maybe_get_longest
from bitfit.data.encode.encoder import tokenize
from bitfit.data.examples import TaskData
from bitfit.data.options import DataOptions
from bitfit.data.read.source import load_task
from bitfit.data.table import TaskTable
from bitfit.errors import RequestError

Data = str | Path | TaskTable | TaskData


def task_data(backbone: Backbone, task: Data, options: DataOptions) -> TaskData:
    """The task's examples, tokenized for this backbone."""
    if isinstance(task, TaskData):
        return task
    if not isinstance(task, str | Path | TaskTable):
        raise RequestError(
            f"Expected a task's name, a file or folder, or a table of rows; found {type(task).__name__}. Write the "
            "rows to a .jsonl or .csv file and give its path."
        )
    table = task if isinstance(task, TaskTable) else load_task(str(task), options=options)
    return tokenize(_readable(backbone, table, options), backbone.reader)


def _readable(backbone: Backbone, table: TaskTable, options: DataOptions) -> TaskTable:
    """Texts cut where the model's positions end: a length that was asked for is refused, a task's own is lowered."""
    longest = maybe_get_longest(backbone.model)
    if longest is None or table.task.max_length <= longest:
        return table
    if options.max_length is not None:
        raise RequestError(
            f"'{backbone.name}' reads texts of at most {longest} pieces; found a maximum length of "
            f"{options.max_length}. Give --max-length {longest} or less."
        )
    note = f"{table.task.name}: texts are cut at {longest} pieces, the most that '{backbone.name}' reads"
    task = replace(table.task, max_length=longest)
    return replace(table, task=task, notes=(*table.notes, note))
