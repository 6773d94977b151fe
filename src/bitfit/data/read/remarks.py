"""What is worth saying of a user's rows: how often each class or label is there, and texts in two splits."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bitfit.data.task import Task

UNBALANCED = 0.8  # a class with more than this share of train is remarked upon
_LISTED = 6  # classes whose shares are shown


def balance(train: pa.Table, task: Task) -> list[str]:
    """How often each class or label is there, and what is lopsided about it."""
    if task.kind == "labels":
        return _label_shares(train, task)
    if task.kind != "class":
        return []
    counts = Counter(train[task.label].to_pylist())
    shares = [(task.labels[index], count) for index, count in counts.most_common()]
    listed = ", ".join(f"{name} {count / train.num_rows:.1%}" for name, count in shares[:_LISTED])
    more = f", and {len(shares) - _LISTED} more" if len(shares) > _LISTED else ""
    notes = [f"train: {train.num_rows:,} rows of {len(shares)} classes: {listed}{more}"]
    if shares[0][1] > UNBALANCED * train.num_rows:
        notes.append(f"unbalanced: answering '{shares[0][0]}' always would be right {shares[0][1] / train.num_rows:.1%}"
                     " of the time; look at macro F1 beside accuracy")  # fmt: skip
    rare = [name for name, count in shares if count == 1]
    if rare:
        notes.append(f"classes with a single row in train: {', '.join(rare[:_LISTED])}")
    return notes


def _label_shares(train: pa.Table, task: Task) -> list[str]:
    """How often each label is there, and how many a row has."""
    rows = train[task.label].to_pylist()
    counts = Counter(index for row in rows for index in row)
    shares = [f"{task.labels[index]} {count / len(rows):.1%}" for index, count in counts.most_common(_LISTED)]
    more = f", and {len(task.labels) - len(shares)} more" if len(task.labels) > len(shares) else ""
    many = f"{counts.total() / len(rows):.1f} a row, {sum(not row for row in rows):,} rows without any"
    return [f"train: {len(rows):,} rows of {len(task.labels)} labels ({many}): {', '.join(shares)}{more}"]


def leaks(splits: Mapping[str, pa.Table], task: Task) -> list[str]:
    """Rows of other splits whose texts train holds too: their scores flatter."""
    if not task.per_text:
        return []
    keys = {split: _keys(rows, task) for split, rows in splits.items()}
    notes = []
    for split, keys_here in keys.items():
        shared = 0 if split == "train" else int(np.isin(keys_here, keys["train"]).sum())
        if shared:
            notes.append(f"{split}: {shared:,} of {len(keys_here):,} rows have texts that are in train too")
    return notes


def _keys(rows: pa.Table, task: Task) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    columns = [rows[name].to_pylist() for name in task.texts]
    return np.array([hash(texts) for texts in zip(*columns, strict=True)], np.int64)
