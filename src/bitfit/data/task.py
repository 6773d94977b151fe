"""What is asked of a model: columns, labels, kind of head, metric."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from bitfit.backbone.heads import PER_TEXT, Head, HeadKind, Pool
from bitfit.errors import DataError, RequestError, nearest

Metric = Literal[
    "accuracy",
    "f1",
    "matthews_correlation",
    "pearson",
    "spearman",
    "exact_match",
    "macro_f1",
    "entity_f1",
    "mean_squared_error",
    "micro_f1",
    "mean_average_precision",
]

MAIN_METRIC: dict[HeadKind, Metric] = {
    "class": "accuracy",
    "labels": "micro_f1",
    "number": "spearman",
    "tags": "accuracy",
    "span": "f1",
}

_TUPLES = ("texts", "labels", "metrics")  # fields of a task
OF_AN_ORDER = {"mean_average_precision"}  # of numbers, and not of answers
LESS_IS_BETTER = {"mean_squared_error"}
NAMED: tuple[HeadKind, ...] = ("class", "labels", "tags")  # kinds whose answers are names out of a list
COLUMN_EACH = "a column for each label"  # stands for the label column of `labels` that are columns of 0 and 1
LONGEST_TEXT = 1000  # characters of a name or a label
MOST_PIECES = 2**20


def better(metric: Metric, now: float, then: float) -> bool:
    """Is the score `now` better than `then`?"""
    return now < then if metric in LESS_IS_BETTER else now > then


@dataclass(frozen=True, repr=False)
class Task:
    """One task: enough to build its head, read its columns and score its answers.

    By hand: Task("mood", labels=["sad", "glad"]), or Task("rating", "number").
    """

    name: str
    kind: HeadKind = "class"
    texts: tuple[str, ...] = ("text",)  # the text columns in order: one, or two for a pair; for tags that of words
    label: str = "label"  # the column of the answer; for span that of answers; COLUMN_EACH for one of each label
    labels: tuple[str, ...] = ()  # label names by index; empty for number and span
    metrics: tuple[Metric, ...] = ()  # the main one first
    max_length: int = 128  # in pieces, special ones included
    pool: Pool | None = None  # None: what the backbone was made for
    stride: int = 0  # span only: pieces that neighbouring windows share

    def __post_init__(self) -> None:
        """Keep tuples and Python's own numbers, and refuse what a delta file may not hold."""
        for name in _TUPLES:  # lists are as good, but a task is compared and hashed
            given = getattr(self, name)
            if name == "labels" and isinstance(given, str):
                raise RequestError(f"Expected a list of label names; found the text {given!r:.80}.")
            if not isinstance(given, Iterable):
                raise RequestError(f"A task's {name} must be a list; found {given!r:.80}.")
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        for name in ("max_length", "stride"):  # numpy's numbers become Python's
            if hasattr(value := getattr(self, name), "item"):
                object.__setattr__(self, name, value.item())
        _check(self)

    def __repr__(self) -> str:
        labels = f", {len(self.labels)} labels" if self.labels else ""
        return f"Task({self.name!r}: {self.kind} of {', '.join(self.texts)}{labels})"

    @property
    def metric(self) -> Metric:
        """The metric that decides which epoch is best."""
        return self.metrics[0] if self.metrics else MAIN_METRIC[self.kind]

    @property
    def head(self) -> Head:
        """The head that answers this task."""
        if problem := self.labels_problem:
            raise RequestError(problem)
        outputs = {"number": 1, "span": 2}.get(self.kind, len(self.labels))
        return Head(self.kind, outputs, self.pool)

    @property
    def per_text(self) -> bool:
        """Is there one answer to a whole text?"""
        return self.kind in PER_TEXT

    @property
    def labels_problem(self) -> str:
        """What is wrong with the labels for this kind of task; empty where nothing is. A known task has none yet."""
        wants = self.kind in NAMED
        if wants == bool(self.labels):
            return ""
        rule = "needs its label names: labels=[...]" if wants else "has no labels"
        return f"The task {self.name!r} of kind '{self.kind}' {rule}; found {_shortened(self.labels)}."

    def on(self, pool: Pool) -> Self:
        """The same task on a backbone made for this pooling, which holds where the task says nothing of its own."""
        return self if self.pool else replace(self, pool=pool)

    def with_labels(self, labels: tuple[str, ...]) -> Self:
        """The same task with these label names."""
        return replace(self, labels=labels)

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """A task from what `to_json` gave; anything else is refused."""
        names = {field.name for field in fields(cls)}
        if not isinstance(document, dict) or not {"name", "kind", "texts", "label"} <= set(document) <= names:
            raise DataError(f"A task needs the fields {sorted(names)}; found {document!r}.")
        odd = [name for name in _TUPLES if not isinstance(document.get(name, []), list | tuple)]
        if odd:
            raise DataError(f"A task has lists of {', '.join(odd)}; found {document!r}.")
        return cls(**{"pool": "first", **document})


def is_text(value: Any) -> bool:
    """A name that a person can read: not empty and not a book."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT


def require_choice(what: str, word: Any, choices: Any) -> None:
    """Refuse a word that is not one of a Literal's, and name the nearest."""
    if word not in get_args(choices):
        raise RequestError(f"There is no {what} {word!r:.80}. {nearest(str(word), get_args(choices))}")


def _check(task: Task) -> None:
    require_choice("kind", task.kind, HeadKind)
    if task.pool is not None:
        require_choice("pool", task.pool, Pool)
    for metric in task.metrics:
        require_choice("metric", metric, Metric)
    twice = [label for label, count in Counter(map(str, task.labels)).items() if count > 1]
    texts = f"a text of 1 to {LONGEST_TEXT} characters"
    for name, rule, right in (
        ("name", texts, is_text(task.name)),
        ("label", texts, is_text(task.label)),
        ("texts", "the names of one column or two", all(map(is_text, task.texts)) and 1 <= len(task.texts) <= 2),
        ("labels", f"texts of at most {LONGEST_TEXT} characters", all(map(_is_label, task.labels))),
        ("labels", f"different names; '{''.join(twice[:1])}' is there twice", not twice),
        ("max_length", f"a whole number up to {MOST_PIECES:,}", _is_count(task.max_length)),
        ("stride", f"a whole number up to {MOST_PIECES:,}", _is_count(task.stride)),
    ):
        if not right:
            raise RequestError(f"A task's {name} must be {rule}; found {_shortened(getattr(task, name))}.")


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_PIECES


def _shortened(value: Any) -> str:
    return f"{value!r:.80}"
