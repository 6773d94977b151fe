"""Answers texts, pairs, sentences of words, questions or images with a delta."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bitfit.backbone.device import Device, chosen_device
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.data.encode.encoder import ExampleEncoder
from bitfit.data.encode.spans import Span, best_spans
from bitfit.data.encode.texts import tags_of_words
from bitfit.data.examples import Examples
from bitfit.data.options import DataOptions
from bitfit.data.read.chunk import Chunk, refused, shown
from bitfit.data.read.inputs import Inputs
from bitfit.data.read.memory import Rows, chunk_of, is_table, plain
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.errors import DataError, RequestError, nearest
from bitfit.inference.calibration import probabilities
from bitfit.inference.outputs import outputs, pass_tokens
from bitfit.inference.pass_budget import Budget
from bitfit.inference.thresholds import beyond, shares_of
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.precision import Precision, compute_format, trusted
from bitfit.runtime.row_model import RowModel

ANSWER = "answer"  # name of the first column of answers
Texts = Iterable[Any] | Rows  # one text or pair, or many; or a table with the task's columns
_SHOWN = 3  # shares in an answer's repr


@dataclass(frozen=True, repr=False)
class Answer:
    """One answer."""

    # class: a label; labels: a list of them, the likeliest first; number: a float; tags: a label for each word, None
    # where the sentence was cut before it; span: a part of the context, "" where there is none; of any kind None where
    # a file's row cannot be used
    value: Any
    scores: dict[str, float] | None = None  # each label's share: of a class adding up to 1, of labels each by itself
    best: tuple[Span, ...] = ()  # span: the best answers, with their positions and shares, best first
    unsure: bool = False  # class: the share is below the delta's threshold

    @property
    def shares(self) -> list[float] | None:
        """Of labels: that of each in the answer; None where a row cannot be used."""
        return None if self.value is None else [(self.scores or {})[label] for label in self.value]

    def __repr__(self) -> str:
        """The value, and the largest shares to three digits."""
        by_share = sorted((self.scores or {}).items(), key=lambda pair: -pair[1])
        shares = [f"{label} {share:.3f}" for label, share in by_share[:_SHOWN]]
        shares += [f"{span.text!r} {span.probability:.3f}" for span in self.best[:_SHOWN]]
        value = f"{self.value:.6g}" if isinstance(self.value, float) else repr(self.value)
        value = f"unsure, {value}" if self.unsure else value
        return f"Answer({value}: {', '.join(shares)})" if shares else f"Answer({value})"


def answer_table(task: Task, answers: Sequence[Answer], name: str = ANSWER, threshold: float | None = None) -> pa.Table:
    """Answers as columns: the value; the share of a label (of labels a list) or of a text, and whether it is below the
    threshold, where there is one; a text's first character."""
    values = [answer.value for answer in answers]
    if task.kind == "number":
        return pa.table({name: _floats(values)})
    if task.kind in ("labels", "tags"):
        columns = {name: pa.array(values, pa.list_(pa.string()))}
        if task.kind == "labels":
            columns[f"{name}_score"] = pa.array([a.shares for a in answers], pa.list_(pa.float64()))
        return pa.table(columns)
    columns = {name: pa.array(values, pa.string())}
    if task.kind == "class":
        columns[f"{name}_score"] = _floats([(a.scores or {}).get(a.value) for a in answers])
        if threshold is not None:
            unsure = [None if answer.value is None else answer.unsure for answer in answers]
            columns[f"{name}_unsure"] = pa.array(unsure, pa.bool_())
        return pa.table(columns)
    best = [answer.best[0] if answer.best else None for answer in answers]
    columns[f"{name}_start"] = pa.array([None if span is None else span.start for span in best], pa.int64())
    shares = [None if span is None else span.probability for span in best]
    return pa.table({**columns, f"{name}_score": _floats(shares)})


def _floats(values: Sequence[float | None]) -> pa.Array:
    return pa.array(values, pa.float64())


class Predictor:
    """A delta on its backbone, ready to answer; made once and used for many texts.

    Where memory runs out its passes get smaller, which `say` is told.
    """

    def __init__(
        self,
        backbone: Backbone | str | Path,
        delta: Delta,
        precision: Precision = "auto",
        say: Callable[[str], None] = lambda text: None,
        device: Device = "auto",
    ) -> None:
        backbone, delta = as_backbone(backbone), as_delta(delta)
        delta.check(backbone)
        where = chosen_device(device)
        self.backbone, self.task = backbone, delta.task
        self.temperature, self.threshold = delta.temperature or 1.0, delta.threshold
        self.thresholds = delta.thresholds
        model = backbone.task_model(self.task.head)
        delta.insert_modules(model)
        theta_map = ThetaMap(delta.slots, model, device=where)
        parts = [torch.from_numpy(np.asarray(delta.values[slot.key]).reshape(-1)) for slot in delta.slots]
        self.model = RowModel(
            model,
            self.task.head,
            compute_format(trusted(precision, backbone.config.model_type), where),
            where,
        )
        self.values = theta_map.tensors(torch.cat(parts).to(where)[None])
        self.budget = Budget(pass_tokens(self.model), 1, say)

    def __repr__(self) -> str:
        return f"Predictor({self.task.name!r} on {self.backbone.name!r})"

    @overload
    def __call__(self, texts: str) -> Answer: ...

    @overload
    def __call__(self, texts: Texts) -> Any: ...

    def __call__(self, texts: Texts) -> Any:
        """An Answer to one text, a list of them to many: see `bitfit.predict`."""
        rows, one = as_rows(texts, self.task, self.backbone.reads_images)
        answers = self.answers(rows)
        return answers[0] if one else answers

    @cached_property
    def encoder(self) -> ExampleEncoder:
        """Makes examples of rows."""
        return ExampleEncoder(self.task, self.backbone.reader)

    def outputs(self, examples: Examples) -> NDArray[Any]:
        """The head's numbers for each example."""
        self.budget.longest = int(examples.lengths.max(initial=1))
        return self.budget.fit(lambda tokens: outputs(self.model, self.values, examples, 1, tokens))[0].values

    def answers(self, rows: pa.Table) -> list[Answer]:
        """An answer for each row of a table with the task's text columns."""
        if not rows.num_rows:
            return []
        examples = self.encoder.examples(rows)
        numbers = self.outputs(examples)
        if self.task.kind == "tags":
            return [Answer(tags) for tags in tags_of_words(examples, numbers, self.task.labels)]
        if self.task.kind == "span":
            return [Answer(best[0].text if best else "", best=best) for best in best_spans(examples, numbers)]
        if self.task.kind == "labels":
            return self._selections(numbers)
        return [self._choice(each) if self.task.kind == "class" else Answer(float(each)) for each in numbers]

    def _selections(self, logits: NDArray[np.float32]) -> list[Answer]:
        """Of each text the labels whose share reaches their threshold, the likeliest first."""
        shares, answered = shares_of(logits), beyond(logits, self.thresholds) >= 0
        answers = []
        for each, chosen in zip(shares.tolist(), answered, strict=True):
            named = dict(zip(self.task.labels, each, strict=True))
            labels = [label for label, there in zip(self.task.labels, chosen, strict=True) if there]
            answers.append(Answer(sorted(labels, key=lambda label: -named[label]), named))
        return answers

    def _choice(self, logits: NDArray[np.float32]) -> Answer:
        """The likeliest label."""
        shares = probabilities(logits, self.temperature)
        named = {label: float(share) for label, share in zip(self.task.labels, shares, strict=True)}
        likeliest = int(logits.argmax())
        unsure = self.threshold is not None and float(shares[likeliest]) < self.threshold
        return Answer(self.task.labels[likeliest], named, unsure=unsure)


@overload
def predict(
    backbone: Backbone | str | Path, delta: Delta, texts: str, precision: Precision = ..., device: Device = ...
) -> Answer: ...


@overload
def predict(
    backbone: Backbone | str | Path, delta: Delta, texts: Texts, precision: Precision = ..., device: Device = ...
) -> Any: ...


def predict(
    backbone: Backbone | str | Path,
    delta: Delta,
    texts: Texts,
    precision: Precision = "auto",
    device: Device = "auto",
) -> Any:
    """An Answer to one text, a list of them to many; as `Predictor(backbone, delta)(texts)`, which is made once and
    used often.

    One text is a string: for tags a sentence, parted at its spaces; for images the path of one. Where the task takes
    two texts (question and context), one pair is a tuple of two strings. Anything else is many: a list of strings, of
    pairs or, for tags, of lists of words; or a table (a DataFrame, a list of dicts ...) with the task's columns.
    """
    backbone, delta = as_backbone(backbone), as_delta(delta)
    rows, one = as_rows(texts, delta.task, backbone.reads_images)  # refused before a model is made
    answers = Predictor(backbone, delta, precision, device=device).answers(rows)
    return answers[0] if one else answers


def as_delta(given: Delta) -> Delta:
    """The delta itself; anything else is refused."""
    if not isinstance(given, Delta):
        raise RequestError(f"Expected a Delta after the backbone, as Delta.load gives it; found {shown(given)}.")
    return given


def as_rows(texts: Texts, task: Task, images: bool) -> tuple[pa.Table, bool]:
    """What was given as a table of the task's columns, and whether it was one text (or pair) alone."""
    inputs = Inputs.of(task, images)
    one = isinstance(texts, str | bytes) or (len(inputs.texts) > 1 and _is_pair(texts))
    table, problems = inputs.table(_chunk([texts] if one else texts, inputs))
    if problems:
        raise refused("What was given", [problem for _, problem in problems])
    return table, one


def _is_pair(texts: object) -> bool:
    return isinstance(texts, tuple) and all(isinstance(text, str) for text in texts)


def _chunk(texts: Texts, inputs: Inputs) -> Chunk:
    """What was given, as columns."""
    if is_table(texts) and not isinstance(texts, tuple):
        chunk = chunk_of(texts, DataOptions(), "texts")
        if absent := inputs.absent(chunk):
            raise DataError(f"The task reads the columns {inputs.columns}. {nearest(absent[0], chunk.columns)}")
        return chunk
    if not isinstance(texts, Iterable):
        raise RequestError(f"Expected a text, or a list of texts; found {shown(texts)}.")
    each = [plain(text) for text in texts]
    if inputs.form == "words":
        return Chunk("texts", {inputs.columns[0]: each})
    wanted = len(inputs.texts)
    parts = [tuple(text) if isinstance(text, list) else (text,) for text in each]
    wrong = next((i for i, one in enumerate(parts) if len(one) != wanted), None)
    if wrong is not None:
        pairs = f" Give each as a pair: ({', '.join(inputs.texts)})." if wanted > 1 else ""
        raise DataError(
            f"The task takes {wanted} text(s) {inputs.texts}; text {wrong + 1} has {len(parts[wrong])}.{pairs}"
        )
    return Chunk("texts", {name: [part[i] for part in parts] for i, name in enumerate(inputs.columns)})
