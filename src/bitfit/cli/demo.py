"""`bitfit demo`: one task from start to end on the embedded model and data."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.main import INTERRUPTED
from bitfit.cli.options import overwrite_option
from bitfit.cli.output import json_option, log, result, table
from bitfit.cli.output_file import check_new, ended_by_sigterm
from bitfit.training.config import TrainConfig

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.inference.predictor import Answer
    from bitfit.training.run import Run

TASK = "rotten-tomatoes"
METHODS = ("bitfit", "frozen")
SENTENCES = (
    "A warm, funny and beautifully acted film.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, but the two leads carry it with charm.",
    "It mistakes loudness for feeling, and length for depth.",
)
NEXT = """\
Next, with the file that was just written:
  {bitfit} predict {file} "Your own sentence."
  {bitfit} report {file}
  {bitfit} delta show {file}
  {bitfit} delta changes {file}
and another task:
  {bitfit} train imdb --epochs 1
  {bitfit} terms minilm
"""


@click.command("demo")
@click.option("--out", "path", type=click.Path(path_type=Path), default=Path(f"{TASK}.safetensors"), show_default=True)
@click.option("--epochs", type=int, default=3, show_default=True)
@click.option("--train-size", type=int, help="Train on so many sentences alone.")
@overwrite_option
@json_option
def command(path: Path, epochs: int, train_size: int | None, overwrite: bool, as_json: bool) -> int:
    """Train 0.1 % of a model on film reviews, beside the same model with nothing but its head trained."""
    check_new(path, overwrite)
    from bitfit.backbone.load import load
    from bitfit.inference.predictor import predict

    backbone = load()
    runs: list[Run] = []
    with ended_by_sigterm():
        for method in METHODS:
            if not any(run.stopped for run in runs):
                runs.append(_trained(backbone, method, epochs, train_size))
    runs[0].delta.save(path)
    answers = predict(backbone, runs[0].delta, SENTENCES)
    document = {
        "delta": str(path),
        "bytes": path.stat().st_size,
        "runs": [run.to_json() for run in runs],
        "answers": [{"text": text, "answer": answer.value} for text, answer in zip(SENTENCES, answers, strict=True)],
    }
    result(as_json, document, lambda console: _show(console, runs, path, answers))
    if any(run.stopped for run in runs):
        log().print("Stopped early. `bitfit demo --overwrite` begins again.")
        return INTERRUPTED
    return 0


def _trained(backbone: Any, method: str, epochs: int, train_size: int | None) -> "Run":
    from bitfit.cli.progress import Shown
    from bitfit.data.options import DataOptions
    from bitfit.inference.task_data import task_data
    from bitfit.training.train import train

    log().print(f"\n{method} on {TASK}")
    data = task_data(backbone, TASK, DataOptions(train_size=train_size))
    with Shown(data.measured_on["validation"]) as shown:
        return train(backbone, data, method, TrainConfig(epochs=epochs), watcher=shown, baselines=method == METHODS[0])


def _show(console: "Console", runs: "list[Run]", path: Path, answers: "list[Answer]") -> None:
    rows = [
        [
            run.delta.method,
            f"{run.trainable:,}",
            f"{100 * run.trainable / run.parameters:.2f} %",
            *(_accuracy(run, split) for split in ("validation", "test")),
            f"{run.seconds:,.0f} s",
        ]
        for run in runs
    ]
    console.print()
    columns = ["method", "trained", "share", "validation", "test", "time"]
    console.print(table("Accuracy on film reviews", columns, rows))
    console.print(f"{runs[0].comparison}\n")
    rows = [[text, f"{answer.value} {_share(answer)}"] for text, answer in zip(SENTENCES, answers, strict=True)]
    console.print(table("What it says of new sentences", ["sentence", "answer"], rows))
    console.print(f"{path} holds all of it: {path.stat().st_size / 1000:,.0f} KB beside a model of 91 MB.\n")
    console.print(NEXT.format(file=path, bitfit="bitfit" if shutil.which("bitfit") else sys.argv[0]))


def _accuracy(run: "Run", split: str) -> str:
    """A run that was stopped early has not read everything."""
    return f"{100 * run.scores[split]['accuracy']:.1f} %" if split in run.scores else "-"


def _share(answer: "Answer") -> str:
    return f"({answer.scores[answer.value]:.0%})" if answer.scores else ""
