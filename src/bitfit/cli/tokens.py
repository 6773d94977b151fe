"""`bitfit tokens`: what a model sees of a text."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.output import json_option, result, table

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.data.encode.inspect import TokenView


@click.command("tokens")
@click.argument("model", metavar="MODEL")
@click.argument("text", metavar="TEXT")
@click.argument("second", metavar="[TEXT2]", required=False)
@click.option(
    "--max-length",
    type=click.IntRange(min=8),
    default=128,
    show_default=True,
    help="Pieces allowed, added marks included; the rest is cut off and shown.",
)
@json_option
def command(model: str, text: str, second: str | None, max_length: int, as_json: bool) -> None:
    """What MODEL sees of TEXT, or of TEXT and TEXT2 as a pair: pieces, their numbers, and what was cut."""
    from bitfit.backbone.load import load
    from bitfit.data.encode.inspect import inspect_tokens
    from bitfit.errors import BackboneError

    tokenizer = load(model, weights=False).tokenizer
    if tokenizer is None:
        raise BackboneError(f"'{model}' has no tokenizer files, so it cannot cut a text into pieces.")
    view = inspect_tokens(tokenizer, [text] if second is None else [text, second], max_length)
    result(as_json, _document(model, view), lambda console: _draw(console, model, view))


def _document(model: str, view: "TokenView") -> dict[str, Any]:
    from bitfit.data.encode.inspect import MEANINGS

    pieces = [asdict(piece) for piece in view.pieces]
    columns = {f"{name}s" if name != "attention_mask" else name: [piece[name] for piece in pieces] for name in MEANINGS}
    return {
        "model": model,
        "max_length": view.max_length,
        **columns,
        "cut": [list(pieces) for pieces in view.cut],
        "meanings": dict(MEANINGS),
    }


def _draw(console: "Console", model: str, view: "TokenView") -> None:
    from bitfit.data.encode.inspect import MEANINGS

    rows = [[str(value) for value in asdict(piece).values()] for piece in view.pieces]
    console.print(table(f"What {model} sees", tuple(MEANINGS), rows))
    for name, meaning in MEANINGS.items():
        console.print(f"{name}: {meaning}.")
    for number, pieces in enumerate(view.cut, start=1):
        if pieces:
            whose = f"of text {number} " if len(view.cut) > 1 else ""
            console.print(f"Cut off {whose}({len(pieces)} pieces beyond {view.max_length}): {' '.join(pieces)}")
    if not any(view.cut):
        console.print(f"Nothing was cut off: {len(view.pieces)} pieces of {view.max_length} allowed.")
