"""Pictures of an evaluation: who is taken for whom, how sure of it, and numbers beside their labels."""

from pathlib import Path
from typing import Any

from bitfit.errors import MissingExtraError, RequestError
from bitfit.inference.calibration import Calibration
from bitfit.inference.evaluation import Evaluation
from bitfit.inference.report import ClassReport, LabelReport, NumberReport

SIDE = 5.0  # inches of a picture with few classes
CLASS_INCHES = 0.28
MOST_INCHES = 24.0
MOST_WRITTEN = 20  # classes whose counts are written into their cells
DOTS = 150  # an inch


def draw_evaluation(evaluation: Evaluation, path: str | Path) -> Path:
    """Write the pictures of an evaluation to one file, whose ending says the format: .png, .svg, .pdf."""
    report, path = evaluation.report, Path(path)
    if report is None:
        raise RequestError("There is a picture of classes, labels, tags and numbers; a task of spans has none.")
    canvas, figure_type = _drawing()
    if isinstance(report, ClassReport):
        side = min(MOST_INCHES, max(SIDE, 2 + CLASS_INCHES * len(report.classes)))
        figure = figure_type(figsize=(side + SIDE, side), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[side, SIDE - 1])
        _draw_confusion(report, left)
        if evaluation.calibration is not None:
            _draw_reliability(evaluation.calibration, right)
        else:
            right.set_axis_off()
    elif isinstance(report, LabelReport):
        height = min(MOST_INCHES, max(SIDE, 1 + CLASS_INCHES * len(report.labels)))
        figure = figure_type(figsize=(SIDE + 3, height), layout="constrained")
        _draw_labels(report, figure.add_subplot())
    else:
        figure = figure_type(figsize=(SIDE + 1, SIDE), layout="constrained")
        _draw_scatter(report, figure.add_subplot())
    scores = ", ".join(f"{name} {value:.3f}" for name, value in evaluation.scores.items())
    figure.suptitle(f"{evaluation.split} ({evaluation.measured_on}): {scores}", fontsize="medium")
    _write(figure, canvas(figure), path)
    return path


def _drawing() -> tuple[Any, Any]:
    """Matplotlib's canvas and figure, which need no screen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("A drawing of an evaluation", "matplotlib", "plots") from None
    return FigureCanvasAgg, Figure


def _draw_confusion(report: ClassReport, axes: Any) -> None:
    """Labels down, answers across; a cell's colour is its share of its label's rows."""
    counts, names = report.confusion, [one.label for one in report.classes]
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = "small" if len(names) > MOST_WRITTEN else "medium"
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 3 else 0, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set(xlabel="answer", ylabel="label")
    if len(names) <= MOST_WRITTEN:
        for (i, j), count in ((at, int(counts[at])) for at in zip(*counts.nonzero(), strict=True)):
            ink = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=ink, fontsize="small")


def _draw_reliability(calibration: Calibration, axes: Any) -> None:
    """Confidence beside the share of right answers, in bins of equal width; on the line they agree."""
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.plot([one.confidence for one in calibration.bins], [one.accuracy for one in calibration.bins], marker="o")
    error = calibration.error_before if calibration.error_after is None else calibration.error_after
    axes.set(xlabel="confidence", ylabel="right answers", title=f"expected calibration error {error:.3f}")
    axes.set_aspect("equal")


def _draw_labels(report: LabelReport, axes: Any) -> None:
    """Precision and recall of each label, and the bar of F1 between them."""
    at = range(len(report.labels))
    axes.barh(at, [one.f1 for one in report.labels], color="lightsteelblue", label="F1")
    axes.scatter([one.precision for one in report.labels], at, marker="|", s=60, label="precision")
    axes.scatter([one.recall for one in report.labels], at, marker="x", s=25, label="recall")
    axes.set_yticks(at, [f"{one.label} ({one.support:,})" for one in report.labels], fontsize="small")
    axes.invert_yaxis()  # the first label on top, as in the table
    axes.set(xlim=(0, 1), ylabel="label (rows)")
    axes.legend(loc="lower right", fontsize="small")


def _draw_scatter(report: NumberReport, axes: Any) -> None:
    """Each row a point; on the line the answer is right."""
    ends = [min(report.labels.min(), report.answers.min()), max(report.labels.max(), report.answers.max())]
    axes.plot(ends, ends, color="grey", linewidth=1)
    axes.scatter(report.labels, report.answers, s=6, alpha=0.4, linewidths=0)
    axes.set(xlabel="label", ylabel="answer")


def _write(figure: Any, canvas: Any, path: Path) -> None:
    formats = canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in formats:
        raise RequestError(
            f"A picture's name ends with its format, as in 'scores.png' or 'scores.svg'; found '{path}'."
        )
    try:
        figure.savefig(path, dpi=DOTS)
    except OSError as error:
        raise RequestError(f"'{path}' cannot be written: {error.strerror}.") from error
