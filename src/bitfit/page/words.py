"""Scores, counts and answers in words, as a person reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitfit.data.examples import measured_text
from bitfit.data.task import LESS_IS_BETTER, Task
from bitfit.delta.delta import Delta
from bitfit.inference.bootstrap import Interval
from bitfit.inference.evaluation import Evaluation
from bitfit.inference.stored import stored_evaluation
from bitfit.page.markup import Markup, foreign, joined

# Scores that are no shares of anything.
PLAIN = {"pearson", "spearman", "matthews_correlation", *LESS_IS_BETTER}
NAMES = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "entity_f1": "F1 of entities",
    "matthews_correlation": "Matthews' correlation",
    "pearson": "Pearson's r",
    "spearman": "Spearman's rank correlation",
    "exact_match": "exact match",
    "mean_squared_error": "mean squared error",
}
SOME_NAMED = 4  # where there are more
MOST_NAMED = 6  # labels that a sentence names
HUGE = 1e15
VALIDATION = "validation"
PERCENT = "\u00a0%"  # never at the start of a line


@dataclass(frozen=True)
class Headline:
    """The score that a page is about."""

    split: str
    metric: str
    score: float
    measured_on: str  # rows; empty where nobody says
    interval: Interval | None = None


def headline(delta: Delta, evaluation: Evaluation | None) -> Headline | None:
    """The main score of the evaluation, else of the file's test or validation split."""
    metric = delta.task.metric
    if evaluation is None and metric in delta.scores.get("test", {}):
        return Headline("test", metric, delta.scores["test"][metric], measured(delta, "test"))
    main = evaluation or stored_evaluation(delta)
    if main is not None:
        name, score = next(iter(main.scores.items()))
        return Headline(main.split, name, score, main.measured_on or measured(delta, main.split), main.interval)
    score_then = validation_score(delta)
    return None if score_then is None else Headline(VALIDATION, metric, score_then, measured(delta, VALIDATION))


def measured(delta: Delta, split: str) -> str:
    """The rows that a split's scores are of; empty where the file does not say."""
    rows = mapping(delta.settings.get("measured_on")).get(split)
    if rows is None and delta.task.kind != "span":  # whose examples are windows
        rows = mapping(mapping(delta.settings.get("facts")).get("examples")).get(split)
    return "" if rows is None else measured_text(rows)


def validation_score(delta: Delta) -> float | None:
    """The main score on validation, by which the epoch was chosen."""
    return delta.scores.get(VALIDATION, {}).get(delta.task.metric)


def mapping(value: Any) -> Mapping[str, Any]:
    """What a file's settings have where a mapping is expected."""
    return value if isinstance(value, Mapping) else {}


def numbers(value: Any) -> dict[str, float]:
    """The numbers of such a mapping, by name."""
    return {name: one for name, one in mapping(value).items() if type(one) in (int, float) and abs(one) < HUGE}


def metric_name(metric: str) -> str:
    """As people write it."""
    return NAMES.get(metric, metric.replace("_", " "))


def capitalized(text: str) -> str:
    """With a capital at its start; the others stay."""
    return text[:1].upper() + text[1:]


def score_text(metric: str, score: float) -> str:
    """A share in percent, anything else as it is."""
    if abs(score) >= HUGE:
        return "out of range"
    return f"{score:.3f}" if metric in PLAIN else f"{100 * score:.1f}{PERCENT}"


def between(metric: str, interval: Interval) -> str:
    """The two ends of an interval."""
    low, high = score_text(metric, interval.low), score_text(metric, interval.high)
    return f"{low.removesuffix(PERCENT)} to {high}"


def purpose(task: Task) -> Markup:
    """What the model does, as a sentence."""
    reads = _listed(task.texts, "and")
    if task.kind == "class" and len(task.labels) <= MOST_NAMED:
        return joined(["Reads ", reads, " and answers ", _listed(task.labels, "or"), "."])
    if task.kind == "labels":
        some = _listed(task.labels[:MOST_NAMED], "")
        more = f" and {len(task.labels) - MOST_NAMED} more)." if len(task.labels) > MOST_NAMED else ")."
        return joined(["Reads ", reads, f" and answers any of {len(task.labels)} labels, or none (", some, more])
    if task.kind == "class":
        some = _listed(task.labels[:SOME_NAMED], "")
        more = f" and {len(task.labels) - SOME_NAMED} more)."
        return joined(["Reads ", reads, f" and answers one of {len(task.labels)} classes (", some, more])
    answers = {
        "number": joined(["a number, ", foreign(task.label)]),
        "tags": joined([f"one of {len(task.labels)} tags for each word, ", foreign(task.label)]),
        "span": Markup("with a part of the text"),
    }
    return joined(["Reads ", reads, " and answers ", answers.get(task.kind, foreign(task.label)), "."])


def quality(task: Task, main: Headline) -> Markup:
    """How good it is, as a sentence."""
    rows = f"the {main.measured_on} " if main.measured_on else "the "
    of = joined([rows, "sentences" if task.kind == "tags" else "rows", " of ", foreign(main.split)])
    score = Markup(f"<strong>{score_text(main.metric, main.score)}</strong>")
    if main.metric == "accuracy":
        sentence = joined(["It is right on ", score, " of ", "the words of " if task.kind == "tags" else "", of])
    else:
        sentence = joined([capitalized(metric_name(main.metric)), " is ", score, " on ", of])
    if main.interval is None:
        return joined([sentence, "."])
    return joined([sentence, f" (95{PERCENT} interval {between(main.metric, main.interval)})."])


def _listed(names: Sequence[str], word: str) -> Markup:
    """A, B or C."""
    shown = [Markup(f"<em>{foreign(name, 60)}</em>") for name in names]
    if len(shown) < 2 or not word:
        return Markup(", ".join(shown))
    return Markup(f"{', '.join(shown[:-1])} {word} {shown[-1]}")
