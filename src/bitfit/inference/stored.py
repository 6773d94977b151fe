"""The figures on validation that a delta stores: all but those of single rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.data.examples import measured_json, measured_text
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.inference.bootstrap import Interval
from bitfit.inference.calibration import Bin, Calibration, expected_error
from bitfit.inference.evaluation import Evaluation
from bitfit.inference.report import ClassReport, LabelReport, LabelScores, report_of
from bitfit.inference.thresholds import DEFAULT

DIGITS = 4
MOST_CELLS = 1500  # of a confusion matrix with more, hardly one says anything
MOST_CLASSES = 2000  # whose matrix is made
SPLIT = "validation"
LARGEST = 10**12
_OF_A_LABEL = ("precision", "recall", "f1", "support", "average_precision")
_OF_ALL = ("micro_f1", "macro_f1", "mean_average_precision", "exact_match")  # of a LabelReport, in its order


def to_settings(evaluation: Evaluation) -> dict[str, Any]:
    """The figures as small JSON values."""
    report, calibration = evaluation.report, evaluation.calibration
    document: dict[str, Any] = {"interval": [round(end, DIGITS) for end in evaluation.interval.to_json()]}
    if isinstance(report, ClassReport) and np.count_nonzero(report.confusion) <= MOST_CELLS:
        rows, columns = report.confusion.nonzero()
        cells = np.stack([rows, columns, report.confusion[rows, columns]], axis=1)
        areas = [None if one is None else round(one, DIGITS) for one in (report.roc_auc, report.average_precision)]
        document |= {"cells": cells.reshape(-1).tolist(), "areas": areas}
    if isinstance(report, LabelReport) and len(report.labels) * len(_OF_A_LABEL) <= MOST_CELLS:
        document["labels"] = [[_rounded(getattr(one, name)) for name in _OF_A_LABEL] for one in report.labels]
        document["of_all"] = [_rounded(getattr(report, name)) for name in _OF_ALL]
    if calibration is not None:
        bins = [[round(one.confidence, DIGITS), round(one.accuracy, DIGITS), one.rows] for one in calibration.bins]
        document |= {"bins": bins, "error_before": round(calibration.error_before, DIGITS)}
    return document


def stored_evaluation(delta: Delta) -> Evaluation | None:
    """The figures again, as far as the file has them; None where it has none, or what `to_settings` never writes."""
    document = delta.settings.get(SPLIT)
    scores = delta.scores.get(SPLIT, {})
    if not isinstance(document, Mapping) or delta.task.metric not in scores:
        return None
    interval = _numbers(document.get("interval"), 2)
    if interval is None:
        return None
    main = [name for name in (delta.task.metrics or (delta.task.metric,)) if name in scores]
    return Evaluation(
        SPLIT,
        {name: scores[name] for name in (*main, *scores)},
        _rows(delta.settings.get("measured_on")),
        Interval(interval[0], interval[1]),
        _label_report(delta, document) if delta.task.kind == "labels" else _report(delta.task, document),
        _calibration(delta.temperature, document),
    )


def _rows(measured_on: Any) -> str:
    """The rows of validation; empty where the file does not say."""
    rows = measured_on.get(SPLIT) if isinstance(measured_on, Mapping) else None
    try:
        measured_json({SPLIT: measured_text(rows)})
    except ValueError:
        return ""
    return measured_text(rows)


def _report(task: Task, document: Mapping[str, Any]) -> ClassReport | None:
    cells, areas, size = document.get("cells"), document.get("areas"), len(task.labels)
    if size > MOST_CLASSES:
        return None
    if not isinstance(cells, list) or not cells or len(cells) % 3 or not all(_is_count(one) for one in cells):
        return None
    triples: NDArray[np.int64] = np.array(cells, np.int64).reshape(-1, 3)
    if triples[:, :2].max() >= size:
        return None
    confusion = np.zeros((size, size), np.int64)
    np.add.at(confusion, (triples[:, 0], triples[:, 1]), triples[:, 2])
    two = _numbers(areas, 2)
    return report_of(task.labels, confusion, *(two or (None, None)))


def _label_report(delta: Delta, document: Mapping[str, Any]) -> LabelReport | None:
    listed, of_all = document.get("labels"), _numbers(document.get("of_all"), len(_OF_ALL))
    names = delta.task.labels
    if not isinstance(listed, list) or len(listed) != len(names) or of_all is None:
        return None
    least = delta.thresholds or (DEFAULT,) * len(names)
    scores = []
    for label, threshold, values in zip(names, least, listed, strict=True):
        average = values[-1:] if isinstance(values, list) else []
        figures = _numbers(values if average != [None] else [*values[:-1], 0], len(_OF_A_LABEL))
        if figures is None or not _is_count(figures[3]):
            return None
        precision, recall, f1, support, area = figures
        known = None if average == [None] else area
        scores.append(LabelScores(label, precision, recall, f1, int(support), threshold, known))
    return LabelReport(tuple(scores), *of_all)


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, DIGITS)


def _calibration(temperature: float | None, document: Mapping[str, Any]) -> Calibration | None:
    listed, before = document.get("bins"), _numbers([document.get("error_before")], 1)
    if not isinstance(listed, list) or not listed or before is None:
        return None
    numbers = [_numbers(one, 3) for one in listed]
    bins = tuple(Bin(one[0], one[1], int(one[2])) for one in numbers if one is not None)
    if len(bins) < len(listed) or any(one.rows < 1 or not 0 <= one.confidence <= 1 for one in bins):
        return None
    return Calibration(temperature, before[0], None if temperature is None else expected_error(bins), bins)


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """So many numbers, or None."""
    proper = isinstance(values, list) and len(values) == count
    if not proper or not all(type(one) in (int, float) and abs(one) < LARGEST for one in values):
        return None
    return tuple(values)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST
