"""Tokenizes texts, pairs of texts and lists of words.

A fast tokenizer is copied and driven directly: no padding, no attention mask, no lists of lists.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, processors
from transformers import PreTrainedTokenizerBase

from bitfit.data.examples import Examples
from bitfit.errors import DataError

CHUNK = 2048  # rows encoded at once: enough to keep every core busy, little enough to keep memory small
# A text is first cut to this many characters for each piece allowed: English has 4 to 5 in a piece. A text
# that proves too short when cut is encoded again whole, so the number bears on speed alone.
CUT_CHARACTERS = 6
_BREAKS_AT_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "ByteLevel", "Metaspace"}


@dataclass(frozen=True, eq=False)
class Pieces:
    """Row i's pieces are ids[offsets[i]:offsets[i + 1]]."""

    ids: NDArray[np.int32]
    types: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    truncated: int  # rows that lost pieces


def fast_copy(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """A copy of the Rust tokenizer that may be set up freely; None where there is none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    copied = Tokenizer.from_str(backend.to_str())
    copied.no_padding()
    copied.no_truncation()
    return copied


def wants_types(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model reads token types; where not, all are 0."""
    return "token_type_ids" in tokenizer.model_input_names


class TextEncoder:
    """Encodes single texts or pairs for one tokenizer and one maximum length."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.with_types = wants_types(tokenizer)
        self.backend = fast_copy(tokenizer)
        self.may_cut = False
        if self.backend is not None:
            _separate_pairs(self.backend, tokenizer)
            self.may_cut = tokenizer.truncation_side == "right" and _local(self.backend)
            self.backend.enable_truncation(max_length, direction=tokenizer.truncation_side)

    def encode(self, first: Sequence[str], second: Sequence[str] | None = None) -> Pieces:
        """Pieces of each text, or of each pair (the longer text of a pair is cut first)."""
        parts = [self._chunk(*chunk) for chunk in _chunks(first, second)]
        joined = _joined(parts)
        empty = np.flatnonzero(np.diff(joined.offsets) == 0)
        if len(empty):
            raise DataError(f"The tokenizer makes no pieces of the text in row {int(empty[0]) + 1}.")
        return joined

    def _chunk(self, first: Sequence[str], second: Sequence[str] | None) -> Pieces:
        if self.backend is None:
            return self._slow(first, second)
        encodings = self._pairs(first, second) if second is not None else self._singles(first)
        return gathered(encodings, self.with_types, sum(bool(encoding.overflowing) for encoding in encodings))

    def _pairs(self, first: Sequence[str], second: Sequence[str]) -> list[Encoding]:
        assert self.backend is not None
        return self.backend.encode_batch_fast(list(zip(first, second, strict=True)))

    def _singles(self, texts: Sequence[str]) -> list[Encoding]:
        assert self.backend is not None
        if not self.may_cut:
            return self.backend.encode_batch_fast(list(texts))
        shorter = [_head(text, self.max_length * CUT_CHARACTERS) for text in texts]
        encodings = self.backend.encode_batch_fast(shorter)
        again = [
            row
            for row, encoding in enumerate(encodings)
            if len(shorter[row]) < len(texts[row]) and not encoding.overflowing
        ]
        for row, encoding in zip(again, self.backend.encode_batch_fast([texts[row] for row in again]), strict=True):
            encodings[row] = encoding
        return encodings

    def _slow(self, first: Sequence[str], second: Sequence[str] | None) -> Pieces:
        """Through the tokenizer's own call, for those written in Python."""
        texts: list[Any] = [list(first), *([list(second)] if second is not None else [])]
        cut = self.tokenizer(*texts, truncation=True, max_length=self.max_length)
        whole = self.tokenizer(*texts, truncation=False, verbose=False)
        pairs = zip(cut["input_ids"], whole["input_ids"], strict=True)
        truncated = sum(len(short) < len(long) for short, long in pairs)
        types = cut["token_type_ids"] if self.with_types and "token_type_ids" in cut else None
        return laid(cut["input_ids"], types, truncated)


def gathered(encodings: Sequence[Encoding], with_types: bool, truncated: int) -> Pieces:
    """The ids and types of encodings, laid end to end."""
    types = [encoding.type_ids for encoding in encodings] if with_types else None
    return laid([encoding.ids for encoding in encodings], types, truncated)


def laid(ids: Sequence[list[int]], types: Sequence[list[int]] | None, truncated: int) -> Pieces:
    """Lists of ids, laid end to end."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
    count = int(offsets[-1])
    flat = np.fromiter(chain.from_iterable(ids), np.int32, count)
    kinds = np.zeros(count, np.uint8) if types is None else np.fromiter(chain.from_iterable(types), np.uint8, count)
    return Pieces(flat, kinds, offsets, truncated)


def _joined(parts: Sequence[Pieces]) -> Pieces:
    lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Pieces(
        np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]),
        np.concatenate([np.zeros(0, np.uint8), *(part.types for part in parts)]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        sum(part.truncated for part in parts),
    )


def _chunks(first: Sequence[str], second: Sequence[str] | None) -> Iterator[tuple[Sequence[str], Sequence[str] | None]]:
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        yield first[part], None if second is None else second[part]


def _head(text: str, characters: int) -> str:
    """The text up to the last space within so many characters; whole where there is none."""
    if len(text) <= characters:
        return text
    end = text.rfind(" ", 0, characters)
    return text[:end] if end > 0 else text


def _local(backend: Tokenizer) -> bool:
    """Whether pieces never reach across a space, so that a text may be cut at one."""
    step = json.loads(backend.to_str())["pre_tokenizer"] or {}
    steps = step.get("pretokenizers", [step])
    return any(
        part.get("type") in _BREAKS_AT_SPACES and part.get("split", True) and part.get("use_regex", True)
        for part in steps
    )


def _separate_pairs(backend: Tokenizer, tokenizer: PreTrainedTokenizerBase) -> None:
    """Put a separator between the texts of a pair where the tokenizer has none (GPT-2)."""
    pair = backend.encode("a", "b")
    owners = pair.sequence_ids
    after_first = owners[len(owners) - owners[::-1].index(0)] if 0 in owners else None
    mark = tokenizer.sep_token or tokenizer.eos_token
    if after_first == 1 and mark is not None:
        backend.post_processor = processors.TemplateProcessing(
            single="$A:0",
            pair=f"$A:0 {mark}:0 $B:1",
            special_tokens=[(mark, backend.token_to_id(mark))],
        )


@dataclass(frozen=True, eq=False)
class Words:
    """Pieces, and for each the number of the word that begins there in its sentence, -1 where none does."""

    pieces: Pieces
    word: NDArray[np.int32]  # (tokens,)


class WordEncoder:
    """Encodes sentences that are already words, for one tokenizer and one maximum length."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        backend = fast_copy(tokenizer)
        if backend is None:
            raise DataError(
                f"Tagging needs a tokenizer that says which word each piece is of; "
                f"{type(tokenizer).__name__} cannot. Choose a model with a fast tokenizer."
            )
        self.backend = _with_leading_space(backend)
        self.backend.enable_truncation(max_length)
        self.with_types = wants_types(tokenizer)

    def encode(self, sentences: Sequence[Sequence[str]]) -> Words:
        """Pieces of each sentence and where its words begin."""
        encodings: list[Encoding] = []
        for start in range(0, len(sentences), CHUNK):
            chunk = [list(words) for words in sentences[start : start + CHUNK]]
            encodings += self.backend.encode_batch(chunk, is_pretokenized=True)
        truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        types = [encoding.type_ids for encoding in encodings] if self.with_types else None
        pieces = laid([encoding.ids for encoding in encodings], types, truncated)
        starts = [_starts(encoding.word_ids) for encoding in encodings]
        return Words(pieces, np.concatenate([np.zeros(0, np.int32), *starts]))


def tags_at_starts(words: Words, tags: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Each word's tag at its first piece, -100 elsewhere."""
    labels = np.full(len(words.word), -100, np.int64)
    lengths = np.array([len(row) for row in tags], np.int64)
    firsts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    sentence = np.repeat(np.arange(len(tags)), np.diff(words.pieces.offsets))
    begins = words.word >= 0
    flat = np.concatenate([np.zeros(0, np.int64), *tags])
    labels[begins] = flat[firsts[sentence[begins]] + words.word[begins]]
    return labels


def tags_of_words(examples: Examples, predicted: NDArray[Any], labels: Sequence[str]) -> list[list[str | None]]:
    """Each sentence's tags, a predicted label for each piece given; None for words that were cut off."""
    tags: list[list[str | None]] = [[None] * count for count in examples.source["words"].tolist()]
    word = examples.source["word"]
    sentence = np.repeat(np.arange(len(examples)), examples.lengths)
    for piece in np.flatnonzero(word >= 0):
        tags[sentence[piece]][word[piece]] = labels[int(predicted[piece])]
    return tags


def _starts(word_ids: list[int | None]) -> NDArray[np.int32]:
    words = np.array([-1 if word is None else word for word in word_ids], np.int32)
    begins = np.ones(len(words), bool)
    begins[1:] = words[1:] != words[:-1]
    return np.where(begins, words, -1).astype(np.int32)


def _with_leading_space(backend: Tokenizer) -> Tokenizer:
    """Byte-level tokenizers mark a word by the space before it: give each word one."""
    document = json.loads(backend.to_str())
    step = document["pre_tokenizer"] or {}
    for part in step.get("pretokenizers", [step]):
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = True
    return Tokenizer.from_str(json.dumps(document))
