"""An evaluation on a terminal."""

from typing import TYPE_CHECKING, Any, TypeVar

from bitfit.cli.output import plain, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bitfit.inference.calibration import Calibration, Threshold
    from bitfit.inference.evaluation import Evaluation
    from bitfit.inference.report import ClassReport, ClassScores, LabelReport

S = TypeVar("S", bound="ClassScores")

MOST_CLASSES = 20  # of a table on a terminal; --json has them all
MOST_CONFUSIONS = 5


def show(console: "Console", evaluated: "Evaluation", threshold: "Threshold | None" = None) -> None:
    """What a person reads: scores, their interval, then what they are made of."""
    console.print(f"{evaluated.split} ({evaluated.measured_on}): {_words(evaluated.scores)}")
    show_figures(console, evaluated, threshold)


def show_figures(
    console: "Console", evaluated: "Evaluation", threshold: "Threshold | None" = None, classes: int = MOST_CLASSES
) -> None:
    """The interval of the main score, and what the scores are made of; a table of so many classes at most."""
    from bitfit.inference.report import ClassReport, LabelReport, NumberReport

    scores, report = evaluated.scores, evaluated.report
    low, high = evaluated.interval.to_json()
    console.print(f"95 % interval of {next(iter(scores))} on {evaluated.split}: {low:.4f} to {high:.4f}")
    if isinstance(report, NumberReport):
        console.print(_words({"mean absolute error": report.mean_absolute_error, "r": report.pearson}))
    if evaluated.calibration is not None:
        _show_calibration(console, evaluated.calibration)
    if threshold is not None:
        console.print(threshold_in_words(threshold))
    if isinstance(report, ClassReport):
        _show_classes(console, report, classes)
    if isinstance(report, LabelReport):
        _show_labels(console, report, classes)


def _show_calibration(console: "Console", calibration: "Calibration") -> None:
    before, after = calibration.error_before, calibration.error_after
    if after is None:
        console.print(f"expected calibration error {before:.4f}; the delta has no temperature: train it again for one")
    else:
        chance = f"{calibration.error_by_chance:.4f} of so many rows by chance alone"
        console.print(f"expected calibration error {after:.4f}, without the temperature {before:.4f} ({chance})")


def _show_classes(console: "Console", report: "ClassReport", most: int) -> None:
    """A line for each class, then the largest confusions."""
    more = {"macro F1": report.macro_f1, "weighted F1": report.weighted_f1}
    two = {"ROC AUC": report.roc_auc, "average precision": report.average_precision}
    console.print(_words(more | {name: value for name, value in two.items() if value is not None}))
    shown = _worst_and_largest(report.classes, most)
    rows = [_cells(one) for one in shown]
    console.print(table("", ("class", "precision", "recall", "F1", "support"), rows))
    if len(shown) < len(report.classes):
        console.print(f"{len(report.classes) - len(shown)} more classes: --json has them all")
    for one in report.confusions[:MOST_CONFUSIONS]:
        label, answer = plain(one.label), plain(one.answer)
        verb = "was" if one.count == 1 else "were"
        console.print(f"{one.count:,} of {one.support:,} '{label}' {verb} answered '{answer}'")


def _show_labels(console: "Console", report: "LabelReport", most: int) -> None:
    """A line for each label."""
    console.print(_words({"texts with all their labels and no other": report.exact_match}))
    shown = _worst_and_largest(report.labels, most)
    rows = [
        (*_cells(one), "" if one.average_precision is None else f"{one.average_precision:.3f}", f"{one.threshold:.3f}")
        for one in shown
    ]
    names = ("label", "precision", "recall", "F1", "support", "average precision", "threshold")
    console.print(table("", names, rows))
    if len(shown) < len(report.labels):
        console.print(f"{len(report.labels) - len(shown)} more labels: --json has them all")


def _cells(one: "ClassScores") -> tuple[str, ...]:
    """One class or label, as a table has it."""
    return plain(one.label), f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", f"{one.support:,}"


def _worst_and_largest(classes: "Sequence[S]", most: int) -> "list[S]":
    """All classes, the worst first; of many, the worst half of what is shown and then the largest of the others."""
    worst = sorted(classes, key=lambda one: (one.f1, -one.support))
    if len(worst) <= most:
        return worst
    largest = sorted(worst[most // 2 :], key=lambda one: -one.support)
    return [*worst[: most // 2], *largest[: most // 2]]


def _words(scores: Any) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def threshold_in_words(threshold: "Threshold") -> str:
    if threshold.confidence is None:
        return f"no confidence is enough for a precision of {threshold.precision:g}"
    return (
        f"precision {threshold.reached:.4f} at a confidence of {threshold.confidence:.4f} or more: "
        f"{threshold.coverage:.1%} of the rows"
    )
