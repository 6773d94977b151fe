"""Uses a delta: scores it on a split, or answers texts with it; the backbone itself is never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bitfit.backbone.load import Backbone
from bitfit.backbone.memory import keep_freed_memory
from bitfit.backbone.packed import RowModel
from bitfit.backbone.precision import Precision, compute_format
from bitfit.data.batch import RowEncoder
from bitfit.data.examples import Examples
from bitfit.data.options import DataOptions
from bitfit.delta.delta import Delta
from bitfit.errors import BackboneError, DataError, RequestError, nearest
from bitfit.methods.row import RowMap
from bitfit.training.metrics import score
from bitfit.training.outputs import outputs
from bitfit.training.train import Data, task_data


@dataclass(frozen=True)
class Answer:
    """What a delta says to one text (or pair, or sentence of words)."""

    value: Any  # a label, a number, a list of tags, or a text
    scores: dict[str, float] | None = None  # class: each label's share, adding up to 1


class Predictor:
    """A delta on its backbone, ready to answer; made once and used for many texts."""

    def __init__(self, backbone: Backbone, delta: Delta, precision: Precision = "auto") -> None:
        delta.check(backbone)
        keep_freed_memory()
        self.backbone, self.task = backbone, delta.task
        model = backbone.task_model(self.task.head)
        delta.fit(model)
        rows = RowMap(delta.slots, model)
        parts = [torch.from_numpy(np.asarray(delta.values[slot.key]).reshape(-1)) for slot in delta.slots]
        self.model = RowModel(model, self.task.head, compute_format(precision))
        self.values = rows.tensors(torch.cat(parts)[None])

    def outputs(self, examples: Examples) -> NDArray[Any]:
        """The head's numbers for each example, in the form that `score` takes."""
        return outputs(self.model, self.values, examples)[0].values

    def answers(self, rows: pa.Table) -> list[Answer]:
        """An answer for each row of a table with the task's text columns."""
        if self.backbone.tokenizer is None:
            raise BackboneError(f"'{self.backbone.name}' has no tokenizer, so it cannot read texts.")
        examples = RowEncoder(self.task, self.backbone.tokenizer).examples(rows)
        found = self.outputs(examples)
        if self.task.kind == "class":
            return [self._choice(own) for own in found]
        if self.task.kind == "number":
            return [Answer(float(own)) for own in found]
        raise RequestError(f"Answers of kind '{self.task.kind}' are not written yet.")

    def _choice(self, logits: NDArray[np.float32]) -> Answer:
        """The likeliest label."""
        shares = np.exp(logits - logits.max())
        shares = shares / shares.sum()
        named = {label: float(share) for label, share in zip(self.task.labels, shares, strict=True)}
        return Answer(self.task.labels[int(logits.argmax())], named)


def evaluate(
    backbone: Backbone,
    delta: Delta,
    data: Data | None = None,
    split: str = "test",
    *,
    options: DataOptions | None = None,
    precision: Precision = "auto",
) -> dict[str, float]:
    """Scores of a delta on one split of its own task, or of other data of the same shape."""
    found = task_data(backbone, data or delta.task.name, options or DataOptions(max_length=delta.task.max_length))
    if split not in found.splits:
        raise RequestError(
            f"The task '{found.task.name}' has no labelled part '{split}'. {nearest(split, found.splits)}"
        )
    if found.task.labels != delta.task.labels:
        raise DataError(
            f"The delta answers with the labels {list(delta.task.labels)}; the data has {list(found.task.labels)}."
        )
    examples = found.splits[split]
    return score(delta.task, examples, Predictor(backbone, delta, precision).outputs(examples))


def predict(
    backbone: Backbone, delta: Delta, texts: Sequence[str | tuple[str, ...]], precision: Precision = "auto"
) -> list[Answer]:
    """Answers to texts, or to pairs of texts where the task takes two."""
    wanted = len(delta.task.texts)
    parts = [(text,) if isinstance(text, str) else text for text in texts]
    wrong = next((i for i, part in enumerate(parts) if len(part) != wanted), None)
    if wrong is not None:
        raise DataError(
            f"The task takes {wanted} text(s) {delta.task.texts}; text {wrong + 1} has {len(parts[wrong])}."
        )
    columns = {name: [part[i] for part in parts] for i, name in enumerate(delta.task.texts)}
    return Predictor(backbone, delta, precision).answers(
        pa.table({n: pa.array(c, pa.string()) for n, c in columns.items()})
    )
