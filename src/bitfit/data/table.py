"""A task with the raw rows of its splits, and a digest of their content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from bitfit.data.task import Task


@dataclass(frozen=True, eq=False, repr=False)
class TaskTable:
    """Rows in one shape whatever they came from.

    Columns are the task's text columns, then its label column: int64 index of the label (class), float32
    (number), list of int64 (labels, tags); for span a struct of `text` and `answer_start`, and a column `id`.
    """

    task: Task
    splits: Mapping[str, pa.Table]  # every row has its label
    notes: tuple[str, ...] = ()  # shown before training
    unlabelled: Mapping[str, pa.Table] = field(default_factory=dict)  # such as the test splits of GLUE
    measured_on: Mapping[str, str] = field(default_factory=dict)  # split -> "7,469 of 9,815"

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} {rows.num_rows:,}" for name, rows in self.splits.items())
        return f"TaskTable({self.task.name!r}: {splits} rows)"


class _Digest:
    """A file that keeps nothing but the SHA-256 of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.sha = hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        self.sha.update(chunk)
        return len(chunk)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing to release."""


def content_key(table: pa.Table) -> str:
    """A hex key that changes when a name, type or value of the table does."""
    whole = table.replace_schema_metadata(None).combine_chunks()
    digest = _Digest()
    with pa.ipc.new_stream(pa.PythonFile(digest, mode="w"), whole.schema) as stream:
        stream.write_table(whole)
    return digest.sha.hexdigest()
