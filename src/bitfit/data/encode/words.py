"""Tokenizes lists of words, and notes where each word begins."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from bitfit.data.encode.texts import CHUNK, Pieces, fast_copy, laid, wants_types
from bitfit.data.examples import Examples
from bitfit.errors import DataError


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
