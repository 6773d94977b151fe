"""Exact match and F1 of answers, as the official SQuAD v1.1 evaluation has them; knows nothing of models."""

import re
from collections import Counter
from collections.abc import Sequence
from string import punctuation

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", punctuation)


def normalized(answer: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1 where the answer is one of the gold ones once normalized, else 0."""
    return float(normalized(answer) in {normalized(one) for one in gold})


def token_f1(answer: str, gold: Sequence[str]) -> float:
    """The best overlap of words with any gold answer, as F1."""
    return max((_overlap(normalized(answer).split(), normalized(one).split()) for one in gold), default=0.0)


def _overlap(found: list[str], wanted: list[str]) -> float:
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted)) if common else 0.0
