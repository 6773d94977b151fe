"""What an evaluation finds: scores, how sure they are, and what they are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bitfit.data.examples import Examples, measured_json
from bitfit.data.task import COLUMN_EACH, LESS_IS_BETTER, Task
from bitfit.errors import RequestError
from bitfit.inference.bootstrap import Floats, Interval, resampled
from bitfit.inference.calibration import Calibration, Threshold, calibration_of, probabilities, threshold_of
from bitfit.inference.metrics import known_rows, score
from bitfit.inference.report import (
    ClassReport,
    LabelReport,
    NumberReport,
    class_report,
    label_report,
    number_report,
    tag_report,
)
from bitfit.inference.thresholds import scorable

ANSWER, CONFIDENCE, ERROR = "answer", "confidence", "error"  # columns beside the task's own
MOST_HARDEST = 100  # least certain rows, or largest errors; wrong labels are all there


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Scores, and what they are of."""

    split: str
    scores: Mapping[str, float]
    measured_on: str  # rows, where needed of how many: "7,469 of 9,815"
    interval: Interval  # of the main score, the first
    report: ClassReport | LabelReport | NumberReport | None = None  # None for spans
    calibration: Calibration | None = None  # of classes
    # Each labelled row of classes, labels and numbers: its texts, label and answer, and the answer's confidence or
    # error. Texts are not there where the data came tokenized, nor images.
    rows: pa.Table | None = None
    notes: tuple[str, ...] = ()  # shown with the scores
    resampled: Floats | None = (
        None  # the main score of each of 1,000 draws of the rows; None where a delta stored the rest
    )

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
        return f"Evaluation({self.split!r} of {self.measured_on}: {scores})"

    def to_json(self) -> dict[str, Any]:
        """The evaluation as plain values, without the rows."""
        return {
            "split": self.split,
            "measured_on": measured_json({self.split: self.measured_on})[self.split] if self.measured_on else None,
            "scores": dict(self.scores),
            "interval": self.interval.to_json(),
            "report": None if self.report is None else self.report.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }

    def threshold(self, precision: float) -> Threshold:
        """The confidence above which answers are this precise on these rows; `Delta.with_threshold` keeps it."""
        if self.rows is None or self.calibration is None:
            raise RequestError("A threshold is one of the confidence in a class; this task has no classes.")
        if not 0 < precision <= 1:
            raise RequestError(f"A precision is a number above 0 and at most 1; found {precision}.")
        label, answer, confidence = (column.to_numpy() for column in self.rows.columns[-3:])
        return threshold_of(confidence, label == answer, precision)

    def hardest(self) -> pa.Table:
        """The errors, the most confident first, then the right answers that are least certain: the column `why` tells
        them apart. Of numbers and labels the largest errors."""
        if self.rows is None:
            raise RequestError("There are hardest rows of classes, labels and numbers; tags and spans have none.")
        confidence = self.rows.columns[-1].to_numpy()
        if self.calibration is None:  # numbers and labels: the last column is the error
            return self.rows.take(np.argsort(-confidence, kind="stable")[:MOST_HARDEST])
        label, answer = (column.to_numpy() for column in self.rows.columns[-3:-1])
        wrong, right = np.flatnonzero(label != answer), np.flatnonzero(label == answer)
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
        right = right[np.argsort(confidence[right], kind="stable")][:MOST_HARDEST]
        why = pa.array(["wrong"] * len(wrong) + ["uncertain"] * len(right), pa.string())
        return self.rows.take(np.concatenate([wrong, right])).append_column("why", why)


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """One split's examples with what the model answers to them, and the texts where they are known."""

    task: Task
    split: str
    examples: Examples
    outputs: NDArray[Any]  # the model's numbers
    measured_on: str
    notes: tuple[str, ...] = ()
    table: pa.Table | None = None  # the rows before they were tokenized; None where the data came tokenized
    thresholds: Sequence[float] | None = None  # of labels, the delta's

    @property
    def answers(self) -> NDArray[Any]:
        """The outputs as `score` takes them."""
        return scorable(self.task, self.outputs, self.thresholds)


def evaluation_of(scored: ScoredRows, temperature: float | None) -> Evaluation:
    """What these answers are worth; `temperature` is the delta's."""
    task, examples, answers = scored.task, scored.examples, scored.answers
    drawn = resampled(task, examples, answers)
    whole = Evaluation(
        scored.split,
        score(task, examples, answers),
        scored.measured_on,
        Interval.of(drawn, 0 if task.metric in LESS_IS_BETTER else len(examples)),
        notes=scored.notes,
        resampled=drawn,
    )
    return replace(whole, **_details(scored, temperature))


def _details(scored: ScoredRows, temperature: float | None) -> dict[str, Any]:
    """What the scores of classes, labels, numbers or tags are made of, over the rows (or words) with a label."""
    if scored.task.kind == "span":
        return {}
    task, known = scored.task, known_rows(scored.task, scored.examples)
    labels, outputs = np.asarray(scored.examples.labels)[known], scored.outputs[known]
    if task.kind == "tags":
        return {"report": tag_report(task.labels, labels, outputs)}
    texts = {} if scored.table is None else _texts(scored.table.filter(pa.array(known)), task)
    if task.kind == "number":
        columns = {task.label: labels, ANSWER: outputs, ERROR: np.abs(labels - outputs)}
        return {"report": number_report(labels, outputs), "rows": _joined(texts, columns)}
    if task.kind == "labels":
        return _label_details(scored, labels > 0, outputs, texts)
    names, answers = np.array(task.labels, object), outputs.argmax(axis=1)
    confidence = probabilities(outputs, temperature or 1.0).max(axis=1)
    columns = {task.label: names[labels], ANSWER: names[answers], CONFIDENCE: confidence}
    return {
        "report": class_report(task.labels, labels, outputs),
        "calibration": calibration_of(outputs, labels, temperature),
        "rows": _joined(texts, columns),
    }


def _label_details(
    scored: ScoredRows, there: NDArray[np.bool_], outputs: NDArray[Any], texts: Mapping[str, Any]
) -> dict[str, Any]:
    """The same of labels; a row's error is its loss."""
    task = scored.task
    beyond = scorable(task, outputs, scored.thresholds)
    columns = {
        "labels" if task.label == COLUMN_EACH else task.label: _named(task, there),
        ANSWER: _named(task, beyond >= 0),
        ERROR: np.logaddexp(0, np.where(there, -outputs, outputs).astype(np.float64)).mean(axis=1),
    }
    return {"report": label_report(task.labels, there, beyond, scored.thresholds), "rows": _joined(texts, columns)}


def _named(task: Task, there: NDArray[np.bool_]) -> pa.Array:
    """The labels of each row as a list."""
    names = np.array(task.labels, object)
    return pa.array([names[each].tolist() for each in there], pa.list_(pa.string()))


def _texts(table: pa.Table, task: Task) -> dict[str, Any]:
    """The columns of texts; images are no texts."""
    return {name: table[name] for name in task.texts if not pa.types.is_large_binary(table.schema.field(name).type)}


def _joined(texts: Mapping[str, Any], columns: Mapping[str, Any]) -> pa.Table:
    """Columns side by side, the texts first; where a text's column has the name of another, that one gets a dash."""
    names = [f"{name}_" if name in texts else name for name in columns]
    return pa.table([*texts.values(), *map(pa.array, columns.values())], [*texts, *names])
