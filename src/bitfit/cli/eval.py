"""`bitfit eval`: scores of a delta on a split of its task, or on a labelled file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.evaluated import show
from bitfit.cli.options import backbone_of, data_options_but, machine_options, overwrite_option, scored_options
from bitfit.cli.output import json_option, log, result
from bitfit.cli.output_file import check_new, check_writable
from bitfit.cli.wording import in_shell
from bitfit.errors import RequestError

if TYPE_CHECKING:
    from bitfit.delta.delta import Delta
    from bitfit.inference.calibration import Threshold
    from bitfit.inference.evaluation import Evaluation


@click.command("eval")
@click.argument("file", type=click.Path(path_type=Path))
@scored_options
@click.option("--image", type=click.Path(path_type=Path), help="Draw who is taken for whom, or a scatter: .png, .svg.")
@click.option(
    "--errors", type=click.Path(path_type=Path), help="Write the wrong and the least certain rows: CSV, JSONL, Parquet."
)
@click.option("--precision-at", type=float, metavar="SHARE", help="Find the confidence that gives this precision.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the delta with that threshold.")
@overwrite_option
@machine_options
@data_options_but("pool", "kind")  # these are the delta's
@json_option
def command(
    file: Path,
    split: str | None,
    model: str | None,
    task: str | None,
    image: Path | None,
    errors: Path | None,
    precision_at: float | None,
    out: Path | None,
    overwrite: bool,
    precision: Any,
    device: Any,
    options: Any,
    as_json: bool,
) -> None:
    """Score the delta in FILE.

    The data is read as in training: with the delta's columns, labels, maximum length and pooling, where nothing else is
    asked for. A labelled file (--task FILE, no --split) is scored whole; the very file that the delta was trained on,
    on the split that was held out. --data-dir is not in the delta: give it again. --train-size goes with --split train.
    Rows that are not those of training are remarked upon.

    The interval is that of 95 % of 1,000 draws of the same rows. Classes are listed worst first; where there are many,
    the worst and the largest.

    --json: {delta, task, split, measured_on: rows or {rows, of}, scores: {metric: 0 to 1}, interval: [low, high] of the
    first score, report, calibration, threshold, notes: [...]}. The report of classes is {classes: [{label, precision,
    recall, f1, support}], confusion: one list for each label with the rows of each answer, macro_f1, weighted_f1,
    roc_auc, average_precision}, that of tags the same, of words, that of labels {labels: [{label, precision, recall,
    f1, support, threshold, average_precision}], micro_f1, macro_f1, mean_average_precision, exact_match}, that of
    numbers {mean_absolute_error, pearson, labels, answers}, that of spans null. The calibration of classes is
    {temperature, expected_error_before, expected_error_after, expected_error_by_chance, bins: [{confidence, accuracy,
    rows}]}, the threshold {precision, confidence, coverage, reached}.
    """
    from bitfit.delta.delta import Delta
    from bitfit.inference.evaluate import evaluation

    if image is not None:
        check_writable(image, "--image")
    if errors is not None:
        _check_errors(errors)
    if out is not None:
        _check_out(out, overwrite, precision_at)
    delta = Delta.load(file)
    if precision_at is not None and delta.task.kind != "class":
        raise RequestError(f"--precision-at needs classes; the delta gives answers of kind '{delta.task.kind}'.")
    backbone = backbone_of(delta, model)
    evaluated = evaluation(backbone, delta, task, split, options=options, precision=precision, device=device)
    notes = [in_shell(text) for text in evaluated.notes]
    for text in notes:
        log().print(text)
    if image is not None:
        _draw(evaluated, image)
    if errors is not None:
        _write_errors(evaluated, errors)
    threshold = None if precision_at is None else evaluated.threshold(precision_at)
    if out is not None and threshold is not None:
        _write_threshold(delta, threshold, out)
    document = {
        "delta": str(file),
        "task": task or delta.task.name,
        **evaluated.to_json(),
        "threshold": None if threshold is None else threshold.to_json(),
        "notes": notes,
    }
    result(as_json, document, lambda console: show(console, evaluated, threshold))


def _draw(evaluated: "Evaluation", image: Path) -> None:
    from bitfit.inference.figures import draw_evaluation

    draw_evaluation(evaluated, image)
    log().print(f"{image} is drawn")


def _check_out(out: Path, overwrite: bool, precision_at: float | None) -> None:
    if precision_at is None:
        raise RequestError("--out writes the delta with a threshold: give --precision-at, as in --precision-at 0.95.")
    check_new(out, overwrite)


def _write_threshold(delta: "Delta", threshold: "Threshold", out: Path) -> None:
    if threshold.confidence is None:
        log().print(f"{out} is not written: no confidence is enough for a precision of {threshold.precision:g}")
        return
    delta.with_threshold(threshold.confidence, threshold.precision).save(out)
    log().print(f"{out}: the delta, unsure below a confidence of {threshold.confidence:g}")


def _check_errors(errors: Path) -> None:
    from bitfit.data.write.formats import check_ending

    check_ending(errors)
    check_writable(errors, "--errors")


def _write_errors(evaluated: "Evaluation", errors: Path) -> None:
    from bitfit.data.write.formats import write_rows

    hardest = evaluated.hardest()
    columns = zip(hardest.column_names, hardest.columns, strict=True)
    write_rows(errors, {name: column.to_pylist() for name, column in columns})
    log().print(f"{errors}: {hardest.num_rows:,} rows, the most confident errors first")
