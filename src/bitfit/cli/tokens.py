"""`bitfit tokens`: what a model sees of a text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.output import json_option, result, table
from bitfit.errors import BackboneError, RequestError

if TYPE_CHECKING:
    from rich.console import Console
    from transformers import PreTrainedTokenizerBase

MEANINGS = {
    "piece": "a word or a part of one, as the tokenizer cuts the text; marks such as [CLS] are added by it",
    "input_id": "the piece's number in the vocabulary: its row in the table of embeddings",
    "token_type_id": "0 in the first text, 1 in the second, for models that tell the two apart so",
    "attention_mask": "1 where a piece may be attended to, 0 for padding; bitfit adds no padding, so all are 1",
}


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

    tokenizer = load(model, weights=False).tokenizer
    if tokenizer is None:
        raise BackboneError(f"'{model}' has no tokenizer files, so it cannot cut a text into pieces.")
    view = inspect_tokens(tokenizer, [text] if second is None else [text, second], max_length)
    result(as_json, _document(model, view), lambda console: _draw(console, model, view))


def _document(model: str, view: "TokenView") -> dict[str, Any]:
    from bitfit.cli.tokens import MEANINGS

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
    from bitfit.cli.tokens import MEANINGS

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


@dataclass(frozen=True)
class ViewedToken:
    """One position of the input."""

    piece: str
    input_id: int
    token_type_id: int
    attention_mask: int = 1


@dataclass(frozen=True)
class TokenView:
    """The whole input, and the pieces of each text that the maximum length left out."""

    pieces: tuple[ViewedToken, ...]
    cut: tuple[tuple[str, ...], ...]  # one for each text
    max_length: int


def inspect_tokens(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], max_length: int) -> TokenView:
    """The input that training and prediction would make of one text, or of two."""
    from bitfit.data.encode.texts import TextEncoder

    empty = [position for position, text in enumerate(texts, start=1) if not text.strip()]
    if empty:
        raise RequestError(f"Text {empty[0]} is empty: there is nothing to see.")
    columns = [[text] for text in texts]
    cut = TextEncoder(tokenizer, max_length).encode(*columns)
    whole = TextEncoder(tokenizer, _no_limit(texts)).encode(*columns)
    names = tokenizer.convert_ids_to_tokens(cut.ids.tolist())
    pieces = zip(names, cut.ids.tolist(), cut.types.tolist(), strict=True)
    lost = _lost(tokenizer, texts, cut.ids.tolist()) if len(cut.ids) < len(whole.ids) else [()] * len(texts)
    return TokenView(tuple(ViewedToken(*piece) for piece in pieces), tuple(lost), max_length)


def _no_limit(texts: Sequence[str]) -> int:
    """More pieces than the texts can have: a character makes at most a handful, in bytes."""
    return 8 * sum(map(len, texts)) + 16


def _lost(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], kept: list[int]) -> list[tuple[str, ...]]:
    """The pieces at the end of each text that are not among the kept ones.

    Marks come before, between and after the texts, so each text's kept pieces are a run that begins it.
    """
    lost, start = [], 0
    for text in texts:
        pieces = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        begin, length = _run(pieces, kept, start)
        start = begin + length
        lost.append(tuple(tokenizer.convert_ids_to_tokens(pieces[length:])))
    return lost


def _run(pieces: list[int], kept: list[int], start: int) -> tuple[int, int]:
    """Where the longest beginning of `pieces` stands in `kept` from `start` on, and its length."""
    best = (start, 0)
    for begin in range(start, len(kept)):
        length = 0
        while length < len(pieces) and begin + length < len(kept) and pieces[length] == kept[begin + length]:
            length += 1
        best = max(best, (begin, length), key=lambda run: run[1])
    return best
