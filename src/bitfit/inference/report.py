"""What scores are made of: each class by itself, who is taken for whom, the errors of numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.inference.calibration import probabilities
from bitfit.inference.metrics import OF_LABELS, average_precision, pearson
from bitfit.inference.thresholds import DEFAULT


@dataclass(frozen=True)
class ClassScores:
    """One class."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int  # rows (of tags words) with this label


@dataclass(frozen=True)
class Confusion:
    """One label that was answered with another."""

    label: str
    answer: str
    count: int
    support: int  # rows with this label


@dataclass(frozen=True, eq=False, repr=False)
class ClassReport:
    """Answers of a task of classes or tags, beside their labels."""

    classes: tuple[ClassScores, ...]  # in the order of the task's labels
    confusion: NDArray[np.int64]  # (labels, answers) rows of each pair
    macro_f1: float  # over the classes that are among the labels or answers
    weighted_f1: float  # by support
    roc_auc: float | None  # of the second class; None where there are not two, or only one of them is labelled
    average_precision: float | None

    def __repr__(self) -> str:
        return f"ClassReport({len(self.classes)} classes: macro F1 {self.macro_f1:.4f})"

    @property
    def confusions(self) -> list[Confusion]:
        """Every pair of label and other answer that there is, the largest first."""
        wrong = self.confusion * (1 - np.eye(len(self.classes), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
        pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [
            Confusion(self.classes[i].label, self.classes[j].label, int(wrong[i, j]), self.classes[i].support)
            for i, j in pairs
        ]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "classes": [asdict(one) for one in self.classes],
            "confusion": self.confusion.tolist(),
            "macro_f1": self.macro_f1,
            "weighted_f1": self.weighted_f1,
            "roc_auc": self.roc_auc,
            "average_precision": self.average_precision,
        }


def class_report(labels: Sequence[str], gold: NDArray[np.int64], logits: NDArray[Any]) -> ClassReport:
    """The report of rows whose label is known."""
    from sklearn import metrics

    auc, precision = None, None
    if len(labels) == 2 and 0 < gold.sum() < len(gold):
        second = probabilities(logits)[:, 1]
        auc = float(metrics.roc_auc_score(gold, second))
        precision = float(metrics.average_precision_score(gold, second))
    return report_of(labels, _pairs(gold, np.asarray(logits).argmax(axis=1), len(labels)), auc, precision)


def tag_report(labels: Sequence[str], gold: NDArray[np.int64], answers: NDArray[np.int64]) -> ClassReport:
    """The report of words whose tag is known."""
    return report_of(labels, _pairs(gold, answers, len(labels)), None, None)


def report_of(
    labels: Sequence[str], confusion: NDArray[np.int64], roc_auc: float | None, average_precision: float | None
) -> ClassReport:
    """The report of a confusion matrix."""
    right, answered, labelled = np.diagonal(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall, f1 = _share(right, answered), _share(right, labelled), _share(2 * right, answered + labelled)
    classes = tuple(
        ClassScores(label, float(precision[i]), float(recall[i]), float(f1[i]), int(labelled[i]))
        for i, label in enumerate(labels)
    )
    macro = float(f1[answered + labelled > 0].mean()) if confusion.any() else 0.0
    weighted = float((f1 * labelled).sum() / max(labelled.sum(), 1))
    return ClassReport(classes, confusion, macro, weighted, roc_auc, average_precision)


def _pairs(gold: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(labels, answers) how often each pair is there."""
    cells = np.asarray(gold, np.int64) * classes + np.asarray(answers, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """0 where there is nothing."""
    return part / np.maximum(whole, 1)


@dataclass(frozen=True)
class LabelScores(ClassScores):
    """One label of a task of any number of them."""

    threshold: float  # the share from which on it is answered
    average_precision: float | None  # None where no row has it


@dataclass(frozen=True, repr=False)
class LabelReport:
    """Answers of a task of any number of labels, beside the right ones."""

    labels: tuple[LabelScores, ...]  # in the order of the task's
    micro_f1: float
    macro_f1: float  # over the labels that are there or answered
    mean_average_precision: float  # over the labels that are there
    exact_match: float  # share of the rows that have all their labels and no other

    def __repr__(self) -> str:
        return f"LabelReport({len(self.labels)} labels: micro F1 {self.micro_f1:.4f})"

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


def label_report(
    labels: Sequence[str], there: NDArray[np.bool_], beyond: NDArray[Any], thresholds: Sequence[float] | None
) -> LabelReport:
    """The report of rows whose labels are known; `beyond`, (rows, labels), is an answer from 0 on."""
    answered = beyond >= 0
    right, said, support = (values.sum(axis=0) for values in (there & answered, answered, there))
    figures = _share(right, said), _share(right, support), _share(2 * right, said + support), support
    averages = average_precision(there, beyond)
    least = [DEFAULT] * len(labels) if thresholds is None else thresholds
    scores = tuple(
        LabelScores(label, precision, recall, f1, support, threshold, average)
        for label, precision, recall, f1, support, threshold, average in zip(
            labels, *(values.tolist() for values in figures), least, averages, strict=True
        )
    )
    of_all = {name: function(there, beyond) for name, function in OF_LABELS.items()}
    return LabelReport(scores, **of_all, exact_match=float((there == answered).all(axis=1).mean()))


@dataclass(frozen=True, eq=False, repr=False)
class NumberReport:
    """Answers of a task of numbers, beside what they should be."""

    mean_absolute_error: float
    pearson: float  # r
    labels: NDArray[np.float64]
    answers: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"NumberReport({len(self.labels):,} rows: mean absolute error {self.mean_absolute_error:.4g})"

    def to_json(self) -> dict[str, Any]:
        """The report as plain values, with every label and answer."""
        return {
            "mean_absolute_error": self.mean_absolute_error,
            "pearson": self.pearson,
            "labels": self.labels.tolist(),
            "answers": self.answers.tolist(),
        }


def number_report(gold: NDArray[Any], answers: NDArray[Any]) -> NumberReport:
    """The report of rows whose number is known."""
    labels, given = np.asarray(gold, np.float64), np.asarray(answers, np.float64)
    return NumberReport(float(np.abs(labels - given).mean()), pearson(labels, given), labels, given)
