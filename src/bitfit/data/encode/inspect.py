"""What a model sees of a text: its tokens, their numbers, and what was cut off."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from bitfit.data.encode.texts import TextEncoder
from bitfit.errors import RequestError

MEANINGS = {
    "piece": "a word or a part of one, as the tokenizer cuts the text; marks such as [CLS] are added by it",
    "input_id": "the piece's number in the vocabulary: its row in the table of embeddings",
    "token_type_id": "0 in the first text, 1 in the second, for models that tell the two apart so",
    "attention_mask": "1 where a piece may be attended to, 0 for padding; bitfit adds no padding, so all are 1",
}


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


def inspect_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> TokenView:
    """The input that training and prediction would make of one text, or of two."""
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


def _lost(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], kept: list[int]) -> list[tuple[str, ...]]:
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
    """Where the longest beginning of `own` stands in `kept` from `start` on, and its length."""
    best = (start, 0)
    for begin in range(start, len(kept)):
        length = 0
        while length < len(pieces) and begin + length < len(kept) and pieces[length] == kept[begin + length]:
            length += 1
        best = max(best, (begin, length), key=lambda run: run[1])
    return best
