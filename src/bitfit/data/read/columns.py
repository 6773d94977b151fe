"""Finds the columns of texts and label in a user's data, and the kind of task.

What the user named is taken; the rest is found by usual names and by the values, and every guess is reported.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitfit.backbone.heads import HeadKind
from bitfit.data.options import DataOptions, option
from bitfit.data.read.labels import holds_lists, label_text
from bitfit.errors import DataError, nearest

LABEL_NAMES = ("label", "labels", "class", "target", "category", "sentiment", "intent", "score", "rating", "y")
TEXT_NAMES = ("text", "sentence", "review", "content", "comment", "message", "body", "title", "document")
PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("query", "passage"),
)
_SURE_TAG_NAMES = ("tags", "ner_tags", "pos_tags", "upos", "xpos")  # of nothing but tags, also where they are texts
TAG_NAMES = (*_SURE_TAG_NAMES, "labels", "label")
_NUMBERING = ("id", "idx", "index")
TOKEN_NAMES = ("tokens", "words")
NUMBER = re.compile(r"[-+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][-+]?[0-9]+)?")
WHOLE = re.compile(r"[-+]?[0-9]+([.]0*)?")
MOST_WHOLE_CLASSES = 20  # more different whole numbers than this are a number, not a class
MOSTLY = 0.9  # share of numbers from which the others are mistakes


@dataclass(frozen=True)
class Columns:
    """The columns of a task and its kind, and what was guessed."""

    kind: HeadKind
    texts: tuple[str, ...]
    label: str
    notes: tuple[str, ...] = ()


def choose(columns: Mapping[str, Sequence[Any]], options: DataOptions, source: str) -> Columns:
    """The task's columns among those of its train rows."""
    _check_named(columns, options, source)
    names = list(columns)
    if _is_tagging(columns, options):
        return _tagging(names, options, source)
    if _is_span(columns, options):
        return _span(names, options, source)
    label = options.label_column or _first(LABEL_NAMES, names) or _only_lists(columns)
    label = label or _other_than_text(columns, options, source)
    texts = _texts([name for name in names if name != label and name.lower() not in _NUMBERING], options, source)
    kind = options.kind or ("labels" if options.label_separator else _kind(columns[label], label))
    guessed = (
        [] if options.kind else [f"kind of task: {kind}, by the values of '{label}'{_other_kind(kind, columns[label])}"]
    )
    if not options.text or not options.label:
        guessed.insert(0, f"columns: text {' and '.join(map(repr, texts))}, label '{label}'")
    return Columns(kind, texts, label, tuple(guessed))


def _kind(values: Sequence[Any], label: str) -> HeadKind:
    if holds_lists(values):
        return "labels"
    texts = [text for value in values if (text := label_text(value)) is not None]
    numbers = [text for text in texts if NUMBER.fullmatch(text)]
    if not mostly_numbers(texts):
        _refuse_too_many(texts, label)
        return "class"
    whole = all(WHOLE.fullmatch(text) for text in numbers)
    return "class" if whole and len(set(numbers)) <= MOST_WHOLE_CLASSES else "number"


def _other_kind(kind: HeadKind, values: Sequence[Any]) -> str:
    """How to have it otherwise, where the values allow both."""
    different = {text for value in values if (text := label_text(value)) is not None}
    if kind == "number" and len(different) <= MOST_WHOLE_CLASSES:
        return f" ({option('kind', 'class')} makes a class of each of its {len(different)} values)"
    if kind == "class" and len(different) > 2 and all(NUMBER.fullmatch(text) for text in different):
        return f" ({option('kind', 'number')} predicts them as a number)"
    return f" ({several})" if kind == "class" and (several := _as_several(different)) else ""


def _as_several(labels: set[str]) -> str:
    """How to have fewer labels of which a text has several, where a mark stands in many of them."""
    for mark in (";", "|", ","):
        parts = {part.strip() for text in labels for part in text.split(mark)}
        if 1 < len(parts) < len(labels) and sum(mark in text for text in labels) > len(labels) / 3:
            return f"{option('label_separator', mark)} makes several labels of each, {len(parts)} in all"
    return ""


def mostly_numbers(labels: Sequence[str]) -> bool:
    """Whether labels are numbers but for a few, which are then mistakes and not classes."""
    return bool(labels) and sum(bool(NUMBER.fullmatch(text)) for text in labels) >= MOSTLY * len(labels)


def _refuse_too_many(values: Sequence[str], label: str) -> None:
    different = len(set(values))
    if len(values) >= 10 and different > len(values) / 2:
        raise DataError(
            f"The column '{label}' holds {different:,} different values in {len(values):,} rows, which is no "
            f"class. Name the right column with {option('label')}, or say {option('kind', 'class')} if every value is "
            f"meant.{f' {several}.' if (several := _as_several(set(values))) else ''}"
        )


def _check_named(columns: Mapping[str, Sequence[Any]], options: DataOptions, source: str) -> None:
    given = {role: getattr(options, role) for role in ("text", "text_pair", "label", "tokens", "tags")}
    named = {role: column for role, column in given.items() if column is not None}
    absent = [
        f"{option(role, column)}: no such column. {nearest(column, columns)}"
        for role, column in named.items()
        if column not in columns
    ]
    if absent:
        raise DataError(f"{source} lacks columns that were asked for.", absent)
    roles: dict[str, str] = {}
    for role, column in named.items():
        if column in roles:
            both = f"{option(roles[column])} and {option(role)}"
            raise DataError(f"{both} both name the column '{column}' of {source}: name two columns.")
        roles[column] = role


def _is_tagging(columns: Mapping[str, Sequence[Any]], options: DataOptions) -> bool:
    if options.kind is not None:
        return options.kind == "tags"
    if options.tokens or options.tags:
        return True
    tokens = _first(TOKEN_NAMES, list(columns))
    if options.text or tokens is None:
        return False
    named = not options.label and _first(_SURE_TAG_NAMES, list(columns)) is not None
    return named or any(isinstance(one, list) for one in columns[tokens])


def _tagging(names: Sequence[str], options: DataOptions, source: str) -> Columns:
    tokens = options.tokens or _first(TOKEN_NAMES, names)
    tags = options.tags or options.label_column or _first(TAG_NAMES, names)
    if tokens is None or tags is None:
        raise DataError(
            f"{source} has no column of {'words' if tokens is None else 'tags'}: name it with "
            f"{option('tokens' if tokens is None else 'tags')}. Columns: {', '.join(names)}."
        )
    guessed = [] if options.kind else ["kind of task: tags, one for each word"]
    if not (options.tokens and options.tags):
        guessed.insert(0, f"columns: tokens '{tokens}', tags '{tags}'")
    return Columns("tags", (tokens,), tags, tuple(guessed))


def _is_span(columns: Mapping[str, Sequence[Any]], options: DataOptions) -> bool:
    if options.kind is not None:
        return options.kind == "span"
    usual = {"question", "context"} <= set(columns) and not options.label
    return usual and bool(_first(("answers", "answer"), list(columns)))


def _span(names: Sequence[str], options: DataOptions, source: str) -> Columns:
    question, context = options.text or "question", options.text_pair or "context"
    label = options.label_column or _first(("answers", "answer"), names)
    absent = [name for name in (question, context, label or "answers") if name not in names]
    if absent or label is None:
        raise DataError(
            f"{source} lacks the columns {', '.join(absent)} of a span task. Name them with {option('text')} "
            f"(question), {option('text_pair')} (context), {option('label')} (answers). Columns: {', '.join(names)}."
        )
    guessed = [] if options.kind else ["kind of task: span, answers marked in a context"]
    if not (options.text and options.text_pair and options.label):
        guessed.insert(0, f"columns: question '{question}', context '{context}', answers '{label}'")
    return Columns("span", (question, context), label, tuple(guessed))


def _texts(names: Sequence[str], options: DataOptions, source: str) -> tuple[str, ...]:
    if options.text:
        return (options.text,) + ((options.text_pair,) if options.text_pair else ())
    if options.text_pair:
        raise DataError(f"{source}: {option('text_pair')} names the second text; name the first with {option('text')}.")
    pair = next((pair for pair in PAIRS if set(pair) <= set(names)), None)
    if pair is not None:
        return pair
    usual = [name for name in names if name.lower() in TEXT_NAMES]
    if len(usual) == 1:
        return (usual[0],)
    if len(names) == 1:
        return (names[0],)
    raise DataError(f"{source}: which column is the text? Name it with {option('text')}. Columns: {', '.join(names)}.")


def _only_lists(columns: Mapping[str, Sequence[Any]]) -> str | None:
    """The one column that holds lists."""
    lists = [name for name, values in columns.items() if holds_lists(values)]
    return lists[0] if len(lists) == 1 else None


def _other_than_text(columns: Mapping[str, Sequence[Any]], options: DataOptions, source: str) -> str:
    """With two columns, one of them a text, the other is the label."""
    names = list(columns)
    given = {options.text, options.text_pair} - {None}
    left = [name for name in names if name not in given and (given or name.lower() not in TEXT_NAMES)]
    if len(left) == 1 and len(names) > 1:
        return left[0]
    each = [name for name in names if {label_text(value) for value in columns[name]} == {"0", "1"}]
    several = f" Columns of 0 and 1 may be named together: {option('label', each[:2])}." if len(each) > 1 else ""
    raise DataError(
        f"{source}: which column is the label? Name it with {option('label')}.{several} Columns: {', '.join(names)}."
    )


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in wanted if name in lower), None)
