"""Tiny deltas of every kind of task, as files and in memory; nothing is read and hardly anything is learnt."""

from typing import Any

import pyarrow as pa

import bitfit
from bitfit import Delta, TrainConfig
from bitfit.backbone.load import Backbone
from bitfit.data.encode.encoder import tokenize
from bitfit.data.table import TaskTable
from bitfit.data.task import Task
from tests.models import tiny_backbone

SETTINGS = TrainConfig(learning_rate=1e-2, epochs=1, precision="fp32")
WORDS = [f"w{number}" for number in range(4, 64)]
_ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
TASKS = {
    "class": Task("tiny-class", "class", ("text",), "label", ("no", "yes", "perhaps"), max_length=16),
    "pair": Task("tiny-pair", "class", ("left", "right"), "label", ("no", "yes"), max_length=24),
    "labels": Task("tiny-labels", "labels", ("text",), "label", ("sad", "glad", "calm"), max_length=16),
    "number": Task("tiny-number", "number", ("text",), "label", max_length=16),
    "tags": Task("tiny-tags", "tags", ("tokens",), "tags", ("A", "B"), max_length=8),
    "span": Task("tiny-span", "span", ("question", "context"), "answers", max_length=24, stride=4),
}


def sentence(number: int, words: int = 5) -> str:
    """Some words, another choice for each number."""
    return " ".join(WORDS[(number * 7 + 11 * place) % 60] for place in range(words))


def rows(kind: str, count: int) -> dict[str, Any]:
    """Labelled rows of a task, as columns."""
    task = TASKS[kind]
    texts: dict[str, Any] = {name: [sentence(i + 3 * n) for i in range(count)] for n, name in enumerate(task.texts)}
    if kind == "tags":
        texts = {"tokens": [sentence(i, 3 + i % 5).split() for i in range(count)]}
        return {**texts, "tags": [[place % 2 for place in range(3 + i % 5)] for i in range(count)]}
    if kind == "span":
        first = [text.split()[1] for text in texts["context"]]
        answers = [
            {"text": [word], "answer_start": [text.index(word)]}
            for word, text in zip(first, texts["context"], strict=True)
        ]
        return {**texts, "answers": pa.array(answers, _ANSWERS), "id": [str(i) for i in range(count)]}
    if kind == "labels":
        return {**texts, "label": [[at for at in range(3) if (i >> at) & 1] for i in range(count)]}
    labels = [i % len(task.labels) for i in range(count)] if task.labels else [i / count for i in range(count)]
    return {**texts, "label": pa.array(labels, pa.int64() if task.labels else pa.float32())}


def trained(kind: str = "class", backbone: Backbone | None = None) -> tuple[Backbone, Delta]:
    """A backbone and a delta of this kind of task on it."""
    backbone = backbone or tiny_backbone("bert")
    splits = {"train": pa.table(rows(kind, 16)), "validation": pa.table(rows(kind, 8))}
    data = tokenize(TaskTable(TASKS[kind], splits), backbone.reader, cache=None)
    return backbone, bitfit.train(backbone, data, "bitfit", SETTINGS).delta
