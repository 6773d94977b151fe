"""`bitfit eval`: scores of a delta on a split of its task, or on a labelled file."""

from pathlib import Path
from typing import Any

import click

from bitfit.cli.options import backbone_of, data_options_but, machine_options
from bitfit.cli.output import json_option, log, result


@click.command("eval")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--split", help="train, validation, test ... Default: test if it is labelled, else validation.")
@click.option("--model", help="Default: the backbone that the file names.")
@click.option("--task", help="Other data of the same shape: a file or folder. Default: the task that the file names.")
@machine_options
@data_options_but("pool", "kind")  # these are the delta's
@json_option
def command(
    file: Path,
    split: str | None,
    model: str | None,
    task: str | None,
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

    --json: {delta, task, split, measured_on: rows or {rows, of}, scores: {metric: 0 to 1}, notes: [...]}
    """
    from bitfit.data.examples import measured_json
    from bitfit.delta.delta import Delta
    from bitfit.inference.evaluate import evaluation

    delta = Delta.load(file)
    backbone = backbone_of(delta, model)
    evaluated = evaluation(backbone, delta, task, split, options=options, precision=precision, device=device)
    for note in evaluated.notes:
        log().print(note)
    document = {
        "delta": str(file),
        "task": task or delta.task.name,
        "split": evaluated.split,
        "measured_on": measured_json({evaluated.split: evaluated.measured_on})[evaluated.split],
        "scores": dict(evaluated.scores),
        "notes": list(evaluated.notes),
    }
    line = f"{evaluated.split} ({evaluated.measured_on}): " + "  ".join(
        f"{name} {value:.4f}" for name, value in evaluated.scores.items()
    )
    result(as_json, document, lambda console: console.print(line))
