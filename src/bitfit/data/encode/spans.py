"""From scores of starts and ends to answers in the context."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.data.examples import Examples

N_BEST = 20
LONGEST_ANSWER = 30  # pieces, as in BERT's own script


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
