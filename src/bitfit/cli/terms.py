"""`bitfit terms`: the biases of a model by name, and what each method trains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.output import json_option, result, table
from bitfit.errors import MissingExtraError, RequestError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from bitfit.backbone.anatomy import Term
    from bitfit.methods.selection import HeadMode


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--labels", type=click.IntRange(min=1), help="Count a text classifier's head with N labels too.")
@click.option(
    "--head",
    type=click.Choice(["full", "bias", "frozen"]),
    default="full",
    show_default=True,
    help="How much of the head trains.",
)
@json_option
def command(model: str, labels: int | None, head: "HeadMode", as_json: bool) -> None:
    """Every bias of MODEL by the paper's name, and how much each method trains.

    MODEL is "minilm", a hub name or a folder; a folder with only config.json will do.
    """
    from bitfit.backbone.anatomy import terms
    from bitfit.backbone.heads import Head
    from bitfit.backbone.load import load

    backbone = load(model, weights=False)
    counted = backbone.model if labels is None else backbone.task_model(Head("class", labels))
    biases = terms(counted)
    document = {
        "model": model,
        "parameters": sum(parameter.numel() for parameter in counted.parameters()),
        "biases": sum(term.size for term in biases),
        "trainable": _trainable(counted, biases, head),
        "terms": [_describe(term) for term in biases],
    }
    result(as_json, document, lambda console: _draw(console, document))


def _trainable(model: "nn.Module", biases: "Sequence[Term]", head: "HeadMode") -> dict[str, int]:
    """Elements that each method trains, its new ones and the head's among them; 0 where it would train nothing."""
    from bitfit.methods.registry import FAMILIES

    symbols = sorted({term.symbol for term in biases if term.symbol})
    asked = {family: family for family in FAMILIES} | {symbol: f"bitfit[{symbol}]" for symbol in symbols}
    counts = {name: _maybe_get_count(model, method, head) for name, method in asked.items()}
    return {name: count for name, count in counts.items() if count is not None}


def _maybe_get_count(model: "nn.Module", method: str, head: "HeadMode") -> int | None:
    """None where the method's library is not installed."""
    from bitfit.methods.method import Method

    try:
        return Method.parse(method, head).count(model)
    except MissingExtraError:
        return None
    except RequestError:  # nothing to train: a model without biases, for one
        return 0


def _describe(term: "Term") -> dict[str, Any]:
    return {
        "symbol": term.symbol,
        "role": term.role,
        "layer": term.layer,
        "name": term.name,
        "size": term.size,
        "inert": term.inert,
    }


def _draw(console: "Console", document: dict[str, Any]) -> None:
    from bitfit.backbone.anatomy import INERT
    from bitfit.methods.registry import FAMILIES

    rows = [
        (
            term["name"],
            (term["symbol"] or "-") + ("*" if term["inert"] else ""),
            term["role"],
            "-" if term["layer"] is None else str(term["layer"]),
            f"{term['size']:,}",
        )
        for term in document["terms"]
    ]
    console.print(table(f"Biases of {document['model']}", ("parameter", "term", "role", "layer", "size"), rows))
    if any(term["inert"] for term in document["terms"]):
        console.print(f"* {INERT}.")
    if not rows:
        console.print("No biases: the method 'added-bias' puts new ones on the layers.")
    total = document["parameters"]
    shares = [(name, f"{count:,}", f"{count / total:.3%}") for name, count in document["trainable"].items()]
    for family in FAMILIES:
        if family not in document["trainable"]:  # its extra has the same name
            console.print(f"'{family}' is not counted: it needs the extra '{family}'.")
    console.print(table(f"What trains, of {total:,} parameters", ("method", "elements", "share"), shares))
