"""`bitfit predict`: answers of a delta to texts on the command line or in a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.output import json_option, result, table
from bitfit.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.delta.delta import Delta
    from bitfit.training.evaluate import Answer


@click.command("predict")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar="TEXT...")
@click.option("--model", help="Default: the backbone that the file names.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@json_option
def command(file: Path, texts: tuple[str, ...], model: str | None, precision: Any, as_json: bool) -> None:
    """Answer each TEXT with the delta in FILE. A task over pairs takes its texts two by two."""
    if not texts:
        raise RequestError("Nothing to answer: give at least one TEXT, in quotes.")
    from bitfit.backbone.load import load
    from bitfit.delta.delta import Delta
    from bitfit.training.evaluate import predict

    delta = Delta.load(file)
    wanted = len(delta.task.texts)
    if len(texts) % wanted:
        raise RequestError(f"This task takes {wanted} texts at a time {delta.task.texts}; found {len(texts)}.")
    rows: list[Any] = [texts[i : i + wanted] for i in range(0, len(texts), wanted)]
    answers = predict(load(model or delta.backbone), delta, rows, precision)
    document = [_document(row, answer) for row, answer in zip(rows, answers, strict=True)]
    result(as_json, document, lambda console: _show(console, delta, document))


def _document(row: tuple[str, ...], answer: "Answer") -> dict[str, Any]:
    """One answer as plain values."""
    scores = {} if answer.scores is None else {"scores": answer.scores}
    return {"texts": list(row), "answer": answer.value, **scores}


def _show(console: "Console", delta: "Delta", document: list[dict[str, Any]]) -> None:
    """A line for each text."""
    rows = [(" | ".join(line["texts"]), _said(line)) for line in document]
    console.print(table(delta.task.name, ("text", "answer"), rows))


def _said(line: dict[str, Any]) -> str:
    """The answer, with its share where it is a label."""
    value = line["answer"]
    if "scores" in line:
        return f"{value} ({line['scores'][value]:.0%})"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
