"""Sections of what a delta answered: classes, confusions, confidences, labels, numbers, the surest errors."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.inference.calibration import Calibration
from bitfit.inference.evaluation import Evaluation
from bitfit.inference.report import ClassReport, LabelReport, NumberReport
from bitfit.page.drawings import MOST_POINTS, Axes, Cell, Point, Series, matrix, plot
from bitfit.page.markup import Markup, element, foreign, joined
from bitfit.page.parts import figure, figures, items, paragraph, section, table
from bitfit.page.words import PERCENT

MOST_CLASSES = 30  # of the table; the worst ones
MOST_CONFUSIONS = 5
MOST_ERRORS = 10
MOST_LETTERS = 400  # of a text
BESIDE_TEXTS = 3  # columns of `Evaluation.rows`: label, answer, and confidence or error
SHARES: Point = (0.0, 1.0)
DIAGONAL = Series("", [(0.0, 0.0), (1.0, 1.0)], "guide")


def answer_sections(delta: Delta, evaluation: Evaluation) -> Markup:
    """Everything that the answers show; of kinds that have no such figures nothing."""
    report = evaluation.report
    parts = []
    if isinstance(report, ClassReport):
        parts += [_classes(evaluation.split, report, delta.task), _confidence(delta, evaluation, report)]
    if isinstance(report, LabelReport):
        parts.append(_labels(evaluation.split, report))
    if isinstance(report, NumberReport):
        parts.append(_numbers(evaluation.split, report))
    return joined([*parts, _errors(evaluation)])


# ---------------------------------------------------------------------- classes


def _classes(split: str, report: ClassReport, task: Task) -> Markup:
    """Each class by itself, and who is taken for whom."""
    one_class, unit = ("tag", "words") if task.kind == "tags" else ("class", "rows")
    worst = sorted(report.classes, key=lambda one: (one.f1, -one.support))
    rows = [
        [foreign(one.label), f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", f"{one.support:,}"]
        for one in worst[:MOST_CLASSES]
    ]
    more = {"macro F1": report.macro_f1, "weighted F1": report.weighted_f1}
    more |= {"average precision": report.average_precision} if report.average_precision is not None else {}
    summary = ", ".join(f"{name} {value:.3f}" for name, value in more.items())
    some = "" if len(worst) <= MOST_CLASSES else f" The {MOST_CLASSES} worst of {len(worst)} are shown."
    caption = f"Labels down, answers across: {unit} of each pair, darker by share of its label."
    return section(
        f"{one_class} by {one_class}".capitalize(),
        paragraph("On ", foreign(split), f", the worst {one_class} first: {summary}.{some}"),
        figures(
            table([one_class, "precision", "recall", "F1", unit], rows),
            element("div", None, figure(_confusion(report), caption), _confused(report, unit)),
        ),
    )


def _confusion(report: ClassReport) -> Markup:
    counts = report.confusion
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    names = [one.label for one in report.classes]
    cells = [
        Cell(row, column, float(shares[row, column]), f"{counts[row, column]:,}")
        for row, column in zip(*counts.nonzero(), strict=True)
    ]
    return matrix("Confusion matrix", (names, names), cells, ("label", "answer"))


def _confused(report: ClassReport, unit: str) -> Markup:
    """The largest confusions in words."""
    lines = [
        joined(
            [
                f"{one.count:,} of {one.support:,} {unit} with the label ",
                element("em", None, foreign(one.label)),
                " were answered " if one.count > 1 else " was answered ",
                element("em", None, foreign(one.answer)),
            ]
        )
        for one in report.confusions[:MOST_CONFUSIONS]
    ]
    return items(lines) if len(report.classes) > 1 else Markup("")


# ---------------------------------------------------------------------- confidences


def _confidence(delta: Delta, evaluation: Evaluation, report: ClassReport) -> Markup:
    """How much its confidence is worth."""
    sentences, drawn = [], []
    if evaluation.calibration is not None:
        sentences.append(f"{_calibrated(evaluation.calibration)} ")
        drawn.append(_reliability(evaluation.calibration))
    if evaluation.rows is not None:
        label, answer, confidence = (column.to_numpy(zero_copy_only=False) for column in evaluation.rows.columns[-3:])
        right = label == answer
        sentences.append(_unsure(delta, confidence, right))
        drawn.append(_coverage(confidence, right, delta))
        if report.roc_auc is not None:
            second = report.classes[1].label
            positive = np.where(answer == second, confidence, 1 - confidence)
            drawn.append(_roc(label == second, positive, report))
    elif delta.threshold is not None:
        sentences.append(_unsure_then(delta))
    return section("How sure it is", paragraph(*sentences), figures(*drawn)) if drawn else Markup("")


def _calibrated(calibration: Calibration) -> str:
    before, after = calibration.error_before, calibration.error_after
    if after is None:
        return f"The expected calibration error is {100 * before:.1f} points; the file has no temperature."
    return (
        f"The expected calibration error is {100 * after:.1f} points ({100 * before:.1f} without the temperature of "
        f"{calibration.temperature:g}; {100 * calibration.error_by_chance:.1f} of so many rows by chance alone)."
    )


def _unsure(delta: Delta, confidence: NDArray[Any], right: NDArray[Any]) -> str:
    """What the file's threshold does on these rows."""
    if delta.threshold is None:
        return "No threshold was chosen: every text gets an answer."
    sure = confidence >= delta.threshold
    if not sure.any():
        return f"Below a confidence of {delta.threshold:g} it is unsure: here of every row."
    return (
        f"Below a confidence of {delta.threshold:g} it is unsure; of the {_percent(sure.mean())} of rows above it "
        f"{_percent(right[sure].mean())} are answered right."
    )


def _unsure_then(delta: Delta) -> str:
    """What the file says of its threshold."""
    precision = delta.settings["calibration"].get("precision")
    proper = type(precision) in (int, float) and 0 < precision <= 1
    above = f"; it was chosen so that {_percent(precision)} of the answers above it are right" if proper else ""
    return f"Below a confidence of {delta.threshold:g} it is unsure{above}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}{PERCENT}"


def _reliability(calibration: Calibration) -> Markup:
    points = [(one.confidence, one.accuracy) for one in calibration.bins]
    rows = [one.rows for one in calibration.bins]
    axes = Axes("confidence, %", "right answers, %", SHARES, SHARES, percent=True)
    weights = [count / max(rows) for count in rows]
    drawn = plot("Reliability diagram", axes, [DIAGONAL, Series("", points, "s1", dots=True, weights=weights)])
    return figure(
        drawn, "On the line a confidence means what it says. The larger a point, the more rows it stands for."
    )


def _coverage(confidence: NDArray[Any], right: NDArray[Any], delta: Delta) -> Markup:
    """The share of right answers among the surest ones."""
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    ends = np.append(np.diff(confidence[order]) != 0, True)  # rows of one confidence stay together
    ends &= count >= min(10, len(order))  # a share of fewer rows says nothing
    share, precision = (count / len(order))[ends], (np.cumsum(right[order]) / count)[ends]
    low = max(0.0, float(precision.min()) - 0.05)
    series = [Series("", _pairs(share, precision), "s1")]
    sure = confidence >= (2.0 if delta.threshold is None else delta.threshold)
    if sure.any():
        series.append(Series("threshold", [(float(sure.mean()), float(right[sure].mean()))], "mark", False, True))
    axes = Axes("rows answered, the surest first, %", "right answers, %", SHARES, (low, 1.0), percent=True)
    drawn = plot("Precision and coverage", axes, series)
    return figure(drawn, "How many answers are right where only the surest rows are answered.")


def _roc(positive: NDArray[Any], score: NDArray[Any], report: ClassReport) -> Markup:
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(positive, score)
    axes = Axes("taken for it wrongly, %", "found, %", SHARES, SHARES, percent=True)
    drawn = plot("ROC curve", axes, [DIAGONAL, Series("", _pairs(false, true), "s1")])
    caption = ["ROC curve of ", foreign(report.classes[1].label), f": the area under it is {report.roc_auc:.3f}."]
    return figure(drawn, joined(caption))


def _pairs(x: NDArray[Any], y: NDArray[Any]) -> list[Point]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


# ---------------------------------------------------------------------- any number of labels


def _labels(split: str, report: LabelReport) -> Markup:
    """Each label by itself, with the share from which on it is answered."""
    worst = sorted(report.labels, key=lambda one: (one.f1, -one.support))[:MOST_CLASSES]
    rows = [
        [
            foreign(one.label),
            *(f"{value:.3f}" for value in (one.precision, one.recall, one.f1)),
            "" if one.average_precision is None else f"{one.average_precision:.3f}",
            f"{one.threshold:.3f}",
            f"{one.support:,}",
        ]
        for one in worst
    ]
    shown = (
        "" if len(report.labels) <= MOST_CLASSES else f" The {MOST_CLASSES} worst of {len(report.labels)} are shown."
    )
    summary = f"macro F1 {report.macro_f1:.3f}, mean average precision {report.mean_average_precision:.3f}"
    exact = f"{_percent(report.exact_match)} of the rows have all their labels and no other"
    names = ["label", "precision", "recall", "F1", "average precision", "threshold", "rows"]
    told = paragraph("On ", foreign(split), f", the worst label first: {summary}; {exact}.{shown}")
    return section("Label by label", told, table(names, rows))


# ---------------------------------------------------------------------- numbers


def _numbers(split: str, report: NumberReport) -> Markup:
    """Answers beside what they should be."""
    labels, answers = report.labels, report.answers
    ends = float(min(labels.min(), answers.min())), float(max(labels.max(), answers.max()))
    room = (ends[1] - ends[0]) * 0.05 or 0.1
    whole: Point = (ends[0] - room, ends[1] + room)
    line = Series("", [(whole[0], whole[0]), (whole[1], whole[1])], "guide")
    dots = Series("", _pairs(labels, answers), "s1 many", line=False, dots=True)
    drawn = plot("Answers beside labels", Axes("label", "answer", whole, whole), [line, dots])
    some = f" {MOST_POINTS:,} of {len(labels):,} rows are drawn." if len(labels) > MOST_POINTS else ""
    error = f"mean absolute error {report.mean_absolute_error:.4g}, r {report.pearson:.3f}"
    return section(
        "Answer by answer",
        paragraph("On ", foreign(split), f": {error}."),
        figures(figure(drawn, f"On the line an answer is right.{some}")),
    )


# ---------------------------------------------------------------------- errors


def _errors(evaluation: Evaluation) -> Markup:
    """The surest wrong answers, or the largest errors, with their texts."""
    if evaluation.rows is None or evaluation.rows.num_columns <= BESIDE_TEXTS:
        return Markup("")  # no texts: images, or data that came tokenized
    hardest, sure = evaluation.hardest(), evaluation.calibration is not None
    if sure:
        hardest = hardest.filter(np.array([why == "wrong" for why in hardest["why"].to_pylist()]))
    names = [name for name in hardest.column_names if name != "why"]
    numeric = [name for name in names if pa.types.is_floating(hardest.schema.field(name).type)]
    rows = [[_shown(row[name]) for name in names] for row in hardest.slice(0, MOST_ERRORS).to_pylist()]
    if not rows:
        return Markup("")
    columns = [foreign(name, 60) for name in names]
    hint = "Read them: often the label is wrong. " if sure else ""
    return section(
        "The surest wrong answers" if sure else "The largest errors",
        paragraph(hint, element("code", None, "bitfit eval --errors errors.csv"), " writes all of them."),
        table(columns, rows, len(names) - len(numeric), len(names) - BESIDE_TEXTS),
    )


def _shown(value: Any) -> Markup:
    if isinstance(value, list):
        return foreign(", ".join(map(str, value)) or "(none)", MOST_LETTERS)
    return foreign(f"{value:#.4g}" if isinstance(value, float) else str(value), MOST_LETTERS)
