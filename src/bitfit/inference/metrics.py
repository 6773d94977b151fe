"""Scores of a task's outputs, each of 0 to 1 (correlations: -1 to 1).

sklearn, scipy and seqeval are imported when a metric needs them: they take a second to load.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from string import punctuation
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.data.encode.spans import best_spans
from bitfit.data.examples import Examples
from bitfit.data.task import Metric, Task
from bitfit.errors import DataError, RequestError

Labels = NDArray[Any]
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", punctuation)


def score(task: Task, examples: Examples, outputs: NDArray[Any]) -> dict[str, float]:
    """The task's metrics by name, its main one first.

    outputs: class (n, labels) logits; labels (n, labels), an answer from 0 on (`thresholds.scorable`); number (n,);
    tags (tokens,) predicted labels; span (tokens, 2) logits.
    """
    if task.kind == "span":
        return _span_scores(task, examples, outputs)
    known = known_rows(task, examples)
    if task.kind == "tags":
        return _tag_scores(task, examples, np.asarray(outputs), known)
    if task.kind == "labels":
        numbers, there = np.asarray(outputs)[known], np.asarray(examples.labels)[known]
        return {name: _of(task, OF_LABELS, name)(there, numbers) for name in _wanted(task)}
    predicted = np.asarray(outputs).argmax(axis=1) if task.kind == "class" else np.asarray(outputs)
    gold = np.asarray(examples.labels)
    return {name: _of(task, _PLAIN, name)(gold[known], predicted[known]) for name in _wanted(task)}


def known_rows(task: Task, examples: Examples) -> NDArray[np.bool_]:
    """Which rows (for tags: words) have a label; refused where none has one."""
    known = examples.labels >= 0 if task.kind != "number" else ~np.isnan(examples.labels)
    known = known.all(axis=1) if task.kind == "labels" else known
    if not known.any():
        raise DataError(f"'{task.name}' cannot be scored: none of the {len(examples):,} rows has its label.")
    return np.asarray(known)


def _wanted(task: Task) -> tuple[Metric, ...]:
    return task.metrics or (task.metric,)


def _of(task: Task, functions: Mapping[str, Any], name: str) -> Any:
    if name not in functions:
        raise RequestError(
            f"The metric '{name}' does not fit '{task.name}', a task of kind '{task.kind}'. "
            f"Metrics that do: {', '.join(functions)}."
        )
    return functions[name]


def _tag_scores(task: Task, examples: Examples, predicted: Labels, known: Labels) -> dict[str, float]:
    gold = np.asarray(examples.labels)
    scores: dict[str, float] = {}
    for name in _wanted(task):
        if name == "entity_f1":
            scores[name] = _entity_f1(task, examples, predicted, known)
        else:
            scores[name] = _of(task, _PLAIN, name)(gold[known], predicted[known])
    return scores


def _entity_f1(task: Task, examples: Examples, predicted: Labels, known: Labels) -> float:
    """F1 of whole entities as seqeval defines it, over the words of each sentence."""
    from seqeval.metrics import f1_score

    sentence = np.repeat(np.arange(len(examples)), examples.lengths)[known]
    edges = np.flatnonzero(np.diff(sentence)) + 1
    names = np.array(task.labels, object)
    gold, tags = (np.split(names[np.asarray(values)[known]], edges) for values in (examples.labels, predicted))
    with warnings.catch_warnings():  # seqeval warns of a score that is 0 by definition, and of odd tag names
        warnings.simplefilter("ignore")
        return float(f1_score([list(row) for row in gold], [list(row) for row in tags], zero_division=0))


def _span_scores(task: Task, examples: Examples, outputs: NDArray[Any]) -> dict[str, float]:
    gold = [row["text"] for row in examples.source["rows"][examples.source["answers"]].to_pylist()]
    best = [spans[0].text if spans else "" for spans in best_spans(examples, outputs, n_best=1)]
    functions: Mapping[str, Callable[..., float]] = {"exact_match": exact_match, "f1": token_f1}
    return {
        name: float(np.mean([_of(task, functions, name)(*pair) for pair in zip(best, gold, strict=True)]))
        for name in _wanted(task)
    }


def _accuracy(gold: Labels, predicted: Labels) -> float:
    return float((gold == predicted).mean())


def _f1(gold: Labels, predicted: Labels) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, average="binary", pos_label=1, zero_division=0))


def _macro_f1(gold: Labels, predicted: Labels) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, average="macro", zero_division=0))


def _matthews(gold: Labels, predicted: Labels) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(gold, predicted))


def _correlation(name: str) -> Callable[[Labels, Labels], float]:
    def correlation(gold: Labels, predicted: Labels) -> float:
        """0 where either side is constant: no order is not a right order."""
        from scipy import stats

        if len(gold) < 2 or np.ptp(gold) == 0 or np.ptp(predicted) == 0:
            return 0.0
        with warnings.catch_warnings():  # scipy warns of values that lie very near to each other
            warnings.simplefilter("ignore")
            return float(getattr(stats, name)(gold, predicted).statistic)

    return correlation


pearson = _correlation("pearsonr")


def _mean_squared_error(gold: Labels, predicted: Labels) -> float:
    return float(((gold.astype(np.float64) - predicted) ** 2).mean())


_PLAIN: Mapping[str, Callable[[Labels, Labels], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews,
    "pearson": pearson,
    "spearman": _correlation("spearmanr"),
    "mean_squared_error": _mean_squared_error,
}


# ---------------------------------------------------------------------- any number of labels


def _micro_f1(there: Labels, numbers: Labels) -> float:
    """sklearn takes a single column for classes, and then gives the accuracy."""
    there, answered = there > 0, numbers >= 0
    return float(2 * (there & answered).sum() / max(there.sum() + answered.sum(), 1))


def _macro_f1_of_labels(there: Labels, numbers: Labels) -> float:
    """The mean over the labels that are there or answered."""
    there, answered = there > 0, numbers >= 0
    either = there.sum(axis=0) + answered.sum(axis=0)
    each = 2 * (there & answered).sum(axis=0)[either > 0] / either[either > 0]
    return float(each.mean()) if len(each) else 0.0


def average_precision(there: Labels, numbers: Labels) -> list[float | None]:
    """Each label's, of its rows in order of its number; None where no row has it."""
    from sklearn.metrics import average_precision_score

    columns = zip(there.T, numbers.T, strict=True)
    return [float(average_precision_score(one, values)) if one.any() else None for one, values in columns]


def _mean_average_precision(there: Labels, numbers: Labels) -> float:
    each = [value for value in average_precision(there, numbers) if value is not None]
    return sum(each) / len(each) if each else 0.0


OF_LABELS: Mapping[str, Callable[[Labels, Labels], float]] = {
    "micro_f1": _micro_f1,
    "macro_f1": _macro_f1_of_labels,
    "mean_average_precision": _mean_average_precision,
}


# ---------------------------------------------------------------------- SQuAD v1.1, as its official evaluation has it


def normalized(answer: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1 where the answer is one of the gold ones once normalized, else 0."""
    return float(normalized(answer) in {normalized(one) for one in gold})


def token_f1(answer: str, gold: Sequence[str]) -> float:
    """The best overlap of words with any gold answer, as F1."""
    return max((_overlap(normalized(answer).split(), normalized(one).split()) for one in gold), default=0.0)


def _overlap(predicted: list[str], wanted: list[str]) -> float:
    common = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * common / (len(predicted) + len(wanted)) if common else 0.0
