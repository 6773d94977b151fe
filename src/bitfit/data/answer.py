"""A model's answer to one text, pair, sentence, question or image; many as columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bitfit.data.encode.spans import Span
from bitfit.data.task import Task

ANSWER = "answer"  # name of the first column of answers


@dataclass(frozen=True)
class Answer:
    """One answer."""

    # class: a label; number: a float; tags: a label for each word, None where the sentence was cut before it;
    # span: a part of the context, "" where there is none
    value: Any
    scores: dict[str, float] | None = None  # class: each label's share, adding up to 1
    best: tuple[Span, ...] = ()  # span: the best answers, with their places and shares, best first


def answer_table(task: Task, answers: Sequence[Answer], name: str = ANSWER) -> pa.Table:
    """Answers as columns: the value; a label's or a text's share of 0 to 1; a text's first character."""
    values = [answer.value for answer in answers]
    if task.kind == "number":
        return pa.table({name: _floats(values)})
    if task.kind == "tags":
        return pa.table({name: pa.array(values, pa.list_(pa.string()))})
    columns = {name: pa.array(values, pa.string())}
    if task.kind == "class":
        return pa.table({**columns, f"{name}_score": _floats([(a.scores or {})[a.value] for a in answers])})
    best = [answer.best[0] if answer.best else None for answer in answers]
    columns[f"{name}_start"] = pa.array([None if span is None else span.start for span in best], pa.int64())
    shares = [None if span is None else span.probability for span in best]
    return pa.table({**columns, f"{name}_score": _floats(shares)})


def _floats(values: Sequence[float | None]) -> pa.Array:
    return pa.array(values, pa.float64())
