"""Checks every value of a user's rows and gives it its type.

Problems are gathered, each with its file, row, column and what was found; a row with a problem is never used.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from bitfit.data.options import option
from bitfit.data.read.chunk import Chunk, is_of_one_row, shown
from bitfit.data.read.columns import NUMBER, Columns
from bitfit.data.read.formats import is_unicode, not_utf8
from bitfit.data.read.labels import is_indicator, label_text

MOST_CHARACTERS = 1_000_000
_LISTED_LABELS = 8
_LONGEST_START = 9  # digits of an answer's position

# "['EU', 'rejects']" and "[3, 0]": what a table program makes of lists.
_WRITTEN_LIST = re.compile(r"""\[\s*((['"]).*\2|[0-9]+(,?\s+[0-9]+|,[0-9]+)+)\s*,?\s*\]""", re.DOTALL)

_SEPARATORS = re.compile(r"[,;|/]")

_LISTS = " (as text: parted at spaces, without brackets)"

LABEL_TYPES = {"class": pa.int64(), "labels": pa.list_(pa.int64()), "number": pa.float32()}

Problems = list[tuple[int, str]]  # the row's index and what is wrong with it


def checked(chunk: Chunk, columns: Columns, labels: Sequence[str], problems: list[str]) -> pa.Table:
    """The rows in the shape of a TaskTable; what is wrong is added to `problems`, its values are then empty."""
    absent = [name for name in (*columns.texts, columns.label) if name not in chunk.columns]
    if absent:
        problems.append(f"{chunk.source}: no column {', '.join(map(repr, absent))}; found {', '.join(chunk.columns)}")
        return None
    by_index: Problems = []
    table = _table(chunk, columns, labels, by_index)
    problems += _by_row(by_index)
    return table


def _table(chunk: Chunk, columns: Columns, labels: Sequence[str], by_index: Problems) -> pa.Table:
    if columns.kind == "tags":
        return _sentences(chunk, columns, labels, by_index)
    arrays = {name: _column(chunk, name, text_problem, "", by_index) for name in columns.texts}
    if columns.kind == "span":
        return _spans(chunk, columns, arrays, by_index)
    arrays[columns.label] = _labels(chunk, columns, labels, by_index)
    kinds = {name: pa.string() for name in columns.texts}
    kinds[columns.label] = LABEL_TYPES[columns.kind]
    return pa.table({name: pa.array(values, kinds[name]) for name, values in arrays.items()})


def usable(chunk: Chunk, columns: Columns, labels: Sequence[str]) -> tuple[Chunk, list[str]]:
    """The rows that nothing is wrong with, and what is wrong with each of the others.

    Rows whose encoding is another stay, to be refused: the file is wrong, not the row.
    """
    by_index: Problems = []
    if all(name in chunk.columns for name in (*columns.texts, columns.label)):
        _table(chunk, columns, labels, by_index)
    wrong: dict[int, str] = {}
    for index, problem in sorted(by_index, key=lambda one: one[0]):
        wrong.setdefault(index, problem)
    wrong = {index: problem for index, problem in wrong.items() if is_of_one_row(problem)}
    return chunk.only([index for index in range(len(chunk)) if index not in wrong]), list(wrong.values())


def _by_row(by_index: Problems) -> list[str]:
    """What is wrong in the order in which someone mends it: row by row, not column by column."""
    return [problem for _, problem in sorted(by_index, key=lambda one: one[0])]


def text_problem(value: Any) -> str | None:
    """What is wrong with a text, or None."""
    if value is None:
        return "the text is missing"
    if not isinstance(value, str):
        return f"expected a text, found {shown(value)}"
    if not value.strip():
        return "the text is empty"
    if len(value) > MOST_CHARACTERS:
        return f"the text has {len(value):,} characters, more than the {MOST_CHARACTERS:,} allowed"
    if not is_unicode(value):
        return not_utf8(value)
    return "the text holds a NUL character" if "\0" in value else None


def has_labels(chunk: Chunk, label: str) -> bool:
    """Whether any row has its label; a split without any is one to predict, not to score."""
    return any(not _missing(value) for value in chunk.columns.get(label, ()))


def _missing(value: Any) -> bool:
    return value is None or value in ("", []) or (isinstance(value, float) and math.isnan(value))


def _column(
    chunk: Chunk, name: str, problem: Callable[[Any], str | None], instead: Any, by_index: Problems
) -> list[Any]:
    good = []
    for index, value in enumerate(chunk.columns[name]):
        wrong = problem(value)
        if wrong is not None:
            by_index.append((index, f"{chunk.where(index, name)}: {wrong}"))
        good.append(value if wrong is None else instead)
    return good


def _labels(chunk: Chunk, columns: Columns, labels: Sequence[str], by_index: Problems) -> list[Any]:
    if columns.kind == "number":
        numbers = _column(chunk, columns.label, _number_problem, 0.0, by_index)
        return [float(value) for value in numbers]
    known = {name: index for index, name in enumerate(labels)}
    if columns.kind == "labels":
        lists = _column(chunk, columns.label, lambda value: _labels_problem(value, known), [], by_index)
        return [sorted({known[label_text(name) or ""] for name in names}) for names in lists]
    named = _column(chunk, columns.label, lambda value: _class_problem(value, known), None, by_index)
    return [known.get(label_text(value) or "", -1) for value in named]


def _number_problem(value: Any) -> str | None:
    text = label_text(value)
    if text is None:
        return "the label is missing"
    if isinstance(value, bool) or not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        return f"expected a number, found {shown(value)}"
    return None if abs(float(text)) < 1e30 else f"the number {shown(value)} is too large"  # fp32 ends at 3e38


def label_problem(value: Any) -> str | None:
    """What is wrong with the label of a class whatever the classes are, or None."""
    if isinstance(value, list | dict | bytes):
        return f"expected a label, found {shown(value)}"
    text = label_text(value)
    if text is None:
        return "the label is missing"
    return None if is_unicode(text) and "\0" not in text else not_utf8(text)


def _class_problem(value: Any, known: Mapping[str, int]) -> str | None:
    wrong = label_problem(value)
    text = label_text(value) or ""
    if wrong is not None or text in known:
        return wrong
    names = ", ".join(list(known)[:_LISTED_LABELS]) + (", ..." if len(known) > _LISTED_LABELS else "")
    return f"the label {shown(text)} is not among those of train ({names})"


def _labels_problem(values: Any, known: Mapping[str, int]) -> str | None:
    """What is wrong with the labels of a text, or None; it may have none of them."""
    if not isinstance(values, list):
        return "the labels are missing" if values is None else f"expected a list of labels, found {shown(values)}"
    if is_indicator(values):
        columns = option("label", ["...", "..."])
        return f"expected names of labels, found {shown(values)}; give 0 and 1 as a column for each label: {columns}"
    wrong = next((problem for value in values if (problem := _class_problem(value, known)) is not None), None)
    if wrong is not None and len(values) == 1 and _are_several(values[0], known):
        wrong += f". If it is several, say what parts them: {option('label_separator')}"
    return wrong


def _are_several(value: Any, known: Mapping[str, int]) -> bool:
    parts = [part.strip() for part in _SEPARATORS.split(value)] if isinstance(value, str) else []
    return len(parts) > 1 and all(part in known for part in parts)


def _sentences(chunk: Chunk, columns: Columns, labels: Sequence[str], by_index: Problems) -> pa.Table:
    known = {name: index for index, name in enumerate(labels)}
    tokens_name, tags_name = columns.texts[0], columns.label
    tokens, tags = [], []
    pairs = zip(chunk.columns[tokens_name], chunk.columns[tags_name], strict=True)
    for index, (words, names) in enumerate(pairs):
        column, wrong = tokens_name, words_problem(words)
        if wrong is None:
            column, wrong = tags_name, _tags_problem(words, names, known)
        if wrong is not None:
            by_index.append((index, f"{chunk.where(index, column)}: {wrong}"))
        tokens.append(words if wrong is None else [])
        tags.append([known[label_text(name) or ""] for name in names] if wrong is None else [])
    types = (pa.list_(pa.string()), pa.list_(pa.int64()))
    return pa.table({tokens_name: pa.array(tokens, types[0]), tags_name: pa.array(tags, types[1])})


def parted(value: Any) -> Any:
    """Words or tags, parted at spaces where they are one text; a list that was written as a text stays what it is."""
    return value.split() if isinstance(value, str) and not _WRITTEN_LIST.fullmatch(value.strip()) else value


def words_problem(words: Any) -> str | None:
    """What is wrong with the words of a sentence, or None."""
    if not isinstance(words, list) or not words:
        return f"expected a list of words{_LISTS if isinstance(words, str) else ''}, found {shown(words)}"
    wrong = next((problem for problem in map(text_problem, words) if problem is not None), None)
    return wrong and f"a word of the sentence: {wrong}"


def _tags_problem(words: list[str], names: Any, known: Mapping[str, int]) -> str | None:
    if not isinstance(names, list):
        return f"expected a list of tags{_LISTS if isinstance(names, str) else ''}, found {shown(names)}"
    if len(names) != len(words):
        return f"{len(words)} words but {len(names)} tags"
    wrong = next((name for name in names if label_text(name) not in known), None)
    return None if wrong is None and None not in names else f"a tag is missing or unknown: {shown(wrong)}"


def _spans(chunk: Chunk, columns: Columns, arrays: dict[str, list[Any]], by_index: Problems) -> pa.Table:
    answers = []
    for index, (value, context) in enumerate(zip(chunk.columns[columns.label], arrays[columns.texts[1]], strict=True)):
        if not context:
            answer: dict[str, list[Any]] | str = _NO_ANSWER  # the context is told of already
        else:
            answer = _answers(value, context, chunk.columns.get("answer_start", ()), index)
        if isinstance(answer, str):
            by_index.append((index, f"{chunk.where(index, columns.label)}: {answer}"))
        answers.append(_NO_ANSWER if isinstance(answer, str) else answer)
    kind = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
    ids = chunk.columns.get("id") or [chunk.where(index) for index in range(len(chunk))]
    names = {**arrays, columns.label: pa.array(answers, kind), "id": pa.array([str(one) for one in ids])}
    return pa.table(names)


_NO_ANSWER: dict[str, list[Any]] = {"text": [], "answer_start": []}


def _answers(value: Any, context: str, starts: Sequence[Any], index: int) -> dict[str, list[Any]] | str:
    """Answers with their positions, or what is wrong; a bare text is looked for in the context."""
    if isinstance(value, str):
        start = starts[index] if starts else context.find(value)
        if not starts and start < 0:
            return f"the answer {shown(value)} does not stand in the context"
        if isinstance(start, str) and start.isascii() and start.isdigit() and len(start) <= _LONGEST_START:
            start = int(start)
        value = {"text": [value], "answer_start": [start]}
    texts, positions = (value.get(name) if isinstance(value, dict) else None for name in ("text", "answer_start"))
    if not isinstance(texts, list) or not isinstance(positions, list) or len(texts) != len(positions) or not texts:
        return f"expected an answer, or text and answer_start as lists of one length, found {shown(value)}"
    for text, start in zip(texts, positions, strict=True):
        if not isinstance(text, str) or not text.strip() or isinstance(start, bool) or not isinstance(start, int):
            return f"expected an answer's text and its first character, found {shown([text, start])}"
        if start < 0 or context[start : start + len(text)] != text:
            return f"the answer {shown(text)} does not stand in the context at character {start}"
    return {"text": texts, "answer_start": positions}
