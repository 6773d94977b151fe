"""Answers texts, pairs, sentences of words, questions or images with a delta; the backbone is never changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bitfit.backbone.device import Device, chosen_device
from bitfit.backbone.load import Backbone
from bitfit.backbone.memory import keep_freed_memory
from bitfit.data.encode import spans
from bitfit.data.encode.encoder import ExampleEncoder
from bitfit.data.encode.words import tags_of_words
from bitfit.data.examples import Examples
from bitfit.data.read.chunk import Chunk, refused
from bitfit.data.read.inputs import Inputs
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.errors import DataError
from bitfit.inference.outputs import outputs, pass_tokens
from bitfit.inference.pass_budget import Budget
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.precision import Precision, compute_format, trusted
from bitfit.runtime.row_model import RowModel

ANSWER = "answer"  # name of the first column of answers


@dataclass(frozen=True)
class Answer:
    """What a delta says to one text, pair, sentence, question or image."""

    # class: a label; number: a float; tags: a label for each word, None where the sentence was cut before it;
    # span: a part of the context, "" where there is none
    value: Any
    scores: dict[str, float] | None = None  # class: each label's share, adding up to 1
    best: tuple[spans.Answer, ...] = ()  # span: the best answers, with their places and shares, best first


class Predictor:
    """A delta on its backbone, ready to answer; made once and used for many texts.

    Where memory runs out its passes get smaller, which `say` is told.
    """

    def __init__(
        self,
        backbone: Backbone,
        delta: Delta,
        precision: Precision = "auto",
        say: Callable[[str], None] = lambda text: None,
        device: Device = "auto",
    ) -> None:
        delta.check(backbone)
        there = chosen_device(device)
        keep_freed_memory(there)
        self.backbone, self.task = backbone, delta.task
        model = backbone.task_model(self.task.head)
        delta.insert_modules(model)
        rows = ThetaMap(delta.slots, model, device=there)
        parts = [torch.from_numpy(np.asarray(delta.values[slot.key]).reshape(-1)) for slot in delta.slots]
        self.model = RowModel(
            model, self.task.head, compute_format(trusted(precision, backbone.config.model_type), there), there
        )
        self.values = rows.tensors(torch.cat(parts).to(there)[None])
        self.budget = Budget(pass_tokens(self.model), 1, say)

    @cached_property
    def encoder(self) -> ExampleEncoder:
        """Makes examples of rows."""
        return ExampleEncoder(self.task, self.backbone.reader)

    def outputs(self, examples: Examples) -> NDArray[Any]:
        """The head's numbers for each example, in the form that `score` takes."""
        self.budget.longest = int(examples.lengths.max(initial=1))
        return self.budget.fit(lambda tokens: outputs(self.model, self.values, examples, 1, tokens))[0].values

    def answers(self, rows: pa.Table) -> list[Answer]:
        """An answer for each row of a table with the task's text columns."""
        if not rows.num_rows:
            return []
        examples = self.encoder.examples(rows)
        found = self.outputs(examples)
        if self.task.kind == "tags":
            return [Answer(tags) for tags in tags_of_words(examples, found, self.task.labels)]
        if self.task.kind == "span":
            return [Answer(best[0].text if best else "", best=best) for best in spans.answers(examples, found)]
        return [self._choice(own) if self.task.kind == "class" else Answer(float(own)) for own in found]

    def _choice(self, logits: NDArray[np.float32]) -> Answer:
        """The likeliest label."""
        shares = np.exp(logits - logits.max())
        shares = shares / shares.sum()
        named = {label: float(share) for label, share in zip(self.task.labels, shares, strict=True)}
        return Answer(self.task.labels[int(logits.argmax())], named)


def predict(
    backbone: Backbone,
    delta: Delta,
    texts: Sequence[str | Sequence[str]],
    precision: Precision = "auto",
    device: Device = "auto",
) -> list[Answer]:
    """Answers to texts: each a text, a pair where the task takes two (question and context), the words of a
    sentence (or the sentence, parted at its spaces) for tags, the path of an image for images."""
    inputs = Inputs.of(delta.task, images=backbone.reads_images)
    problems: list[str] = []
    table = inputs.table(_as_rows(texts, inputs), problems)
    if problems:
        raise refused("What was given", problems)
    return Predictor(backbone, delta, precision, device=device).answers(table)


def _as_rows(texts: Sequence[str | Sequence[str]], inputs: Inputs) -> Chunk:
    """What was given, as columns."""
    if inputs.form == "words":
        return Chunk("texts", {inputs.columns[0]: list(texts)})
    wanted = len(inputs.texts)
    parts = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    wrong = next((i for i, one in enumerate(parts) if len(one) != wanted), None)
    if wrong is not None:
        raise DataError(f"The task takes {wanted} text(s) {inputs.texts}; text {wrong + 1} has {len(parts[wrong])}.")
    return Chunk("texts", {name: [part[i] for part in parts] for i, name in enumerate(inputs.columns)})


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
