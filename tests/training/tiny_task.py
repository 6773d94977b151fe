"""A tiny task made of random pieces, for tests of the training loop; nothing is read."""

from typing import Any

import numpy as np

from bitfit.data.examples import Examples, TaskData
from bitfit.data.task import Task
from tests.models import VOCABULARY

SIZES = {"train": 22, "validation": 10, "test": 9}


def tiny_data(kind: str = "class", **sizes: int) -> TaskData:
    """A task of this kind; its labels follow the first word, so that something can be learnt."""
    labels = {"class": ("no", "yes"), "tags": ("no", "yes"), "labels": ("low", "middle", "high")}.get(kind, ())
    task = Task(f"tiny-{kind}", kind, ("text",), "label", labels, max_length=16)  # type: ignore[arg-type]
    splits = {name: _examples(kind, size, i) for i, (name, size) in enumerate((SIZES | sizes).items())}
    return TaskData(task, splits)


def _examples(kind: str, size: int, seed: int) -> Examples:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(4, 16, size)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = draw.integers(4, VOCABULARY, offsets[-1]).astype(np.int32)
    first = ids[offsets[:-1] + 1]
    labels: Any = (first > VOCABULARY // 2).astype(np.int64)
    if kind == "number":
        labels = (first / VOCABULARY).astype(np.float32)
    if kind == "labels":
        labels = ((first[:, None] >= [4, 20, 40]) & (first[:, None] < [30, 50, VOCABULARY])).astype(np.int8)
    if kind == "tags":
        labels = (ids > VOCABULARY // 2).astype(np.int64)
    source = {"word": np.arange(len(ids))} if kind == "tags" else {}
    return Examples(ids, np.zeros(len(ids), np.uint8), offsets, labels, source=source)
