"""What is asked of a model: columns, labels, kind of head, metric; knows nothing of rows, files or tokens."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from bitfit.backbone.heads import Head, HeadKind, Pool
from bitfit.errors import DataError

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
]

MAIN_METRIC: dict[HeadKind, Metric] = {
    "class": "accuracy",
    "number": "spearman",
    "tags": "accuracy",
    "span": "f1",
}

_TUPLES = ("texts", "labels", "metrics")  # fields of a task
LESS_IS_BETTER = {"mean_squared_error"}


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
    label: str = "label"  # the column of the answer; for span the column of answers
    labels: tuple[str, ...] = ()  # label names by index; empty for number and span
    metrics: tuple[Metric, ...] = ()  # the main one first
    max_length: int = 128  # in pieces, special ones included
    pool: Pool = "first"
    stride: int = 0  # span only: pieces that neighbouring windows share

    def __post_init__(self) -> None:
        for name in _TUPLES:  # lists are as good, but a task is compared and hashed
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))

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
        outputs = {"class": len(self.labels), "tags": len(self.labels), "number": 1, "span": 2}[self.kind]
        return Head(self.kind, outputs, self.pool)

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
        return cls(**document)
