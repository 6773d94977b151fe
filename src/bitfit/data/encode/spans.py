"""Questions with long contexts: cut into overlapping windows, and from scores back to answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from bitfit.data.encode.texts import Pieces, fast_copy, gathered, wants_types
from bitfit.data.examples import Examples
from bitfit.data.options import option
from bitfit.errors import DataError, RequestError

QUESTION_PIECES = 64  # longer questions are cut, as in BERT's own script
CHUNK = 512  # rows encoded at once; offsets make encodings large
N_BEST = 20
LONGEST_ANSWER = 30  # pieces, as in BERT's own script


@dataclass(frozen=True, eq=False)
class Windows:
    """Pieces of each window; the row each window is of; each piece's characters in its row's context."""

    pieces: Pieces
    row: NDArray[np.int64]  # (windows,)
    start: NDArray[np.int32]  # (tokens,) first character, -1 outside the context
    end: NDArray[np.int32]  # (tokens,) character after the last, -1 outside the context


class WindowEncoder:
    """Cuts pairs of question and context into windows of at most `max_length` pieces."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> None:
        backend = fast_copy(tokenizer)
        if backend is None:
            raise DataError(
                f"Finding spans needs a tokenizer that gives each piece's characters; "
                f"{type(tokenizer).__name__} cannot. Choose a model with a fast tokenizer."
            )
        self.question_pieces = min(QUESTION_PIECES, max_length // 3)
        self.room = max_length - self.question_pieces - backend.num_special_tokens_to_add(is_pair=True)
        if stride >= self.room:
            raise RequestError(
                f"A window of {max_length} pieces leaves {self.room} for the context, which must be more "
                f"than the {stride} that neighbouring windows share. Choose a larger {option('max_length')}."
            )
        self.whole = backend
        self.backend = Tokenizer.from_str(backend.to_str())
        self.backend.enable_truncation(max_length, stride=stride, strategy="only_second")
        self.with_types = wants_types(tokenizer)

    def encode(self, questions: Sequence[str], contexts: Sequence[str]) -> Windows:
        """The windows of each row, in order."""
        parts, rows, cut = [], [], 0
        for first in range(0, len(questions), CHUNK):
            asked, shortened = self._short(questions[first : first + CHUNK])
            cut += shortened
            pairs = list(zip(asked, contexts[first : first + CHUNK], strict=True))
            for row, encoding in enumerate(self.backend.encode_batch(pairs), start=first):
                windows = [encoding, *encoding.overflowing]
                parts += [_Window.of(window, self.with_types) for window in windows]
                rows += [row] * len(windows)
        return _laid(parts, rows, cut)

    def _short(self, questions: Sequence[str]) -> tuple[list[str], int]:
        """Questions cut to the pieces allowed, and how many were."""
        encodings = self.whole.encode_batch(list(questions), add_special_tokens=False)
        asked = [
            text if len(encoding.ids) <= self.question_pieces else text[: encoding.offsets[self.question_pieces - 1][1]]
            for text, encoding in zip(questions, encodings, strict=True)
        ]
        return asked, sum(len(encoding.ids) > self.question_pieces for encoding in encodings)


@dataclass(frozen=True, eq=False)
class _Window:
    """One window as small arrays: an Encoding holds a hundred bytes for each piece."""

    ids: NDArray[np.int32]
    types: NDArray[np.uint8]
    characters: NDArray[np.int32]  # (pieces, 2)

    @classmethod
    def of(cls, encoding: Encoding, with_types: bool) -> "_Window":
        pieces = gathered([encoding], with_types, 0)
        characters = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        inside = np.array([owner == 1 for owner in encoding.sequence_ids], bool)
        return cls(pieces.ids, pieces.types, np.where(inside[:, None], characters, -1))


def _laid(parts: Sequence[_Window], rows: Sequence[int], cut: int) -> Windows:
    offsets = np.concatenate([[0], np.cumsum([len(part.ids) for part in parts])]).astype(np.int64)
    characters = np.concatenate([np.zeros((0, 2), np.int32), *(part.characters for part in parts)])
    pieces = Pieces(
        np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]),
        np.concatenate([np.zeros(0, np.uint8), *(part.types for part in parts)]),
        offsets,
        cut,
    )
    start, end = np.ascontiguousarray(characters.T)
    return Windows(pieces, np.array(rows, np.int64), start, end)


def answer_pieces(windows: Windows, answers: Sequence[tuple[int, int] | None]) -> NDArray[np.int64]:
    """First and last piece of each row's answer in each window; (0, 0) where it is not there whole."""
    labels = np.zeros((len(windows.row), 2), np.int64)
    for window, row in enumerate(windows.row):
        answer = answers[row]
        if answer is not None:
            part = slice(windows.pieces.offsets[window], windows.pieces.offsets[window + 1])
            labels[window] = _located(windows.start[part], windows.end[part], *answer)
    return labels


def _located(start: NDArray[np.int32], end: NDArray[np.int32], first: int, last: int) -> tuple[int, int]:
    context = np.flatnonzero(end > start)
    if not len(context) or start[context[0]] > first or end[context[-1]] < last:
        return 0, 0
    touched = context[(end[context] > first) & (start[context] < last)]
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)


def gold_characters(rows: Sequence[Mapping[str, Any]], contexts: Sequence[str]) -> list[tuple[int, int] | None]:
    """The characters of each row's first answer; None where it has none, or not where it says."""
    spans: list[tuple[int, int] | None] = []
    for answers, context in zip(rows, contexts, strict=True):
        first = next(zip(answers["text"], answers["answer_start"], strict=False), None)
        if first is None or not first[0] or context[first[1] : first[1] + len(first[0])] != first[0]:
            spans.append(None)
        else:
            spans.append((first[1], first[1] + len(first[0])))
    return spans


@dataclass(frozen=True)
class Span:
    """A piece of the context, where it stands, and how the model rates it."""

    text: str
    start: int  # character in the context
    end: int  # character after the last
    score: float  # start logit + end logit
    probability: float  # among the answers kept for the question


def best_spans(examples: Examples, outputs: NDArray[Any], n_best: int = N_BEST) -> list[tuple[Span, ...]]:
    """The best answers to each question of `examples.source["rows"]`, best first, over all its windows."""
    contexts = examples.source["rows"][examples.source["context"]].to_pylist()
    candidates: list[list[tuple[float, int, int]]] = [[] for _ in contexts]
    starts, ends = examples.source["start"], examples.source["end"]
    for row, (first, last) in zip(examples.source["row"], pairwise(examples.offsets), strict=True):
        window = slice(first, last)
        candidates[row] += _window_spans(outputs[window], starts[window], ends[window], n_best)
    return [_distinct(spans, context, n_best) for spans, context in zip(candidates, contexts, strict=True)]


def _window_spans(
    logits: NDArray[Any], starts: NDArray[np.int32], ends: NDArray[np.int32], n_best: int
) -> list[tuple[float, int, int]]:
    """Score and characters of the best spans of one window, none of which ends before it starts."""
    context = np.flatnonzero(ends > starts)  # pieces that stand for characters of the context
    size = len(context)
    if not size:
        return []
    begin, finish = np.asarray(logits, np.float64)[context].T
    scores = np.full((min(LONGEST_ANSWER, size), size), -np.inf)  # (pieces beyond the first, first piece)
    for row, values in enumerate(scores):
        values[: size - row] = begin[: size - row] + finish[row:]
    best = _top(scores.ravel(), n_best)
    beyond, first = np.divmod(best, size)
    characters = zip(starts[context[first]].tolist(), ends[context[first + beyond]].tolist(), strict=True)
    return [(score, *span) for score, span in zip(scores.ravel()[best].tolist(), characters, strict=True)]


def _top(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    finite = int(np.isfinite(scores).sum())
    count = min(count, finite)
    best = np.argpartition(-scores, count - 1)[:count] if count else np.zeros(0, np.int64)
    return best[np.argsort(-scores[best], kind="stable")]


def _distinct(spans: Sequence[tuple[float, int, int]], context: str, n_best: int) -> tuple[Span, ...]:
    """The best spans without repeats (windows overlap), with the probability of each among them."""
    best: dict[tuple[int, int], float] = {}
    for score, start, end in sorted(spans, key=lambda span: (-span[0], span[1], span[2])):
        best.setdefault((start, end), score)
    chosen = list(best.items())[:n_best]
    scores = np.array([score for _, score in chosen])
    weights = np.exp(scores - scores.max()) if len(scores) else scores
    return tuple(
        Span(context[start:end], start, end, score, float(weight / weights.sum()))
        for ((start, end), score), weight in zip(chosen, weights, strict=True)
    )
