"""`bitfit eval`: the scores of a delta on one part of its task."""

from pathlib import Path
from typing import Any

import click

from bitfit.cli.data_options import data_options
from bitfit.cli.output import json_option, result


@click.command("eval")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True, help="train, validation, test ...")
@click.option("--model", help="Default: the backbone that the file names.")
@click.option("--task", help="Other data of the same shape. Default: the task that the file names.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@data_options
@json_option
def command(
    file: Path, split: str, model: str | None, task: str | None, precision: Any, options: Any, as_json: bool
) -> None:
    """Score the delta in FILE."""
    from dataclasses import replace

    from bitfit.backbone.load import load
    from bitfit.delta.delta import Delta
    from bitfit.training.evaluate import evaluate

    delta = Delta.load(file)
    backbone = load(model or delta.backbone)
    options = replace(options, max_length=options.max_length or delta.task.max_length, pool=delta.task.pool)
    scores = evaluate(backbone, delta, task, split, options=options, precision=precision)
    document = {"delta": str(file), "task": delta.task.name, "split": split, "scores": scores}
    line = f"{split}: " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
    result(as_json, document, lambda console: console.print(line))
