"""From a task's rows to its tokenized examples, kept on disk by content; knows nothing of files or models."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import tokenizers
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from bitfit.data.encode.cache import maybe_get_entry, put_entry, user_cache
from bitfit.data.encode.texts import Pieces, TextEncoder
from bitfit.data.encode.windows import WindowEncoder, answer_pieces, gold_characters
from bitfit.data.encode.words import WordEncoder, tags_at_starts
from bitfit.data.examples import Examples, TaskData
from bitfit.data.read.images import ImageEncoder
from bitfit.data.table import TaskTable, content_key
from bitfit.data.task import Task
from bitfit.errors import DataError

FORMAT = 2  # raise when the arrays change their meaning: older entries are then not found
_EXAMPLE_ARRAYS = ("ids", "types", "offsets", "labels")


def tokenize(
    table: TaskTable,
    tokenizer: Any,
    *,
    cache: Path | Literal["user"] | None = "user",
) -> TaskData:
    """Every split of a task as examples; from the cache where the same content was tokenized before.

    A task of images takes the image model's processor in the tokenizer's place.
    """
    folder = user_cache() if cache == "user" else cache
    encoder = ExampleEncoder(table.task, tokenizer)
    splits = {
        name: _split(rows, encoder, None if folder is None else folder / "tokens")
        for name, rows in table.splits.items()
    }
    notes = [
        *table.notes,
        *(note for name, split in splits.items() for note in said(name, split, table.task)),
    ]
    return TaskData(table.task, splits, tuple(notes), dict(table.measured_on))


class ExampleEncoder:
    """Turns rows of one task into examples; rows without the label column get labels that mean unknown."""

    def __init__(self, task: Task, tokenizer: Any) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self._encoder = _encoder(task, tokenizer)

    def examples(self, rows: pa.Table) -> Examples:
        """Examples of rows as a TaskTable has them."""
        arrays, facts = self.arrays(rows)
        return as_examples(arrays, facts, rows, self.task)

    def arrays(self, rows: pa.Table) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The arrays of an Examples and of its source by name, and the facts that are not arrays."""
        columns = [rows[column].to_pylist() for column in self.task.texts]
        self._refuse_other_kind(rows)
        labels = rows[self.task.label] if self.task.label in rows.column_names else None
        if isinstance(self._encoder, ImageEncoder):
            values = _values(labels, self.task, rows.num_rows)
            return _pictured(self._encoder.pixels(columns[0]), values), {"truncated": 0}
        if isinstance(self._encoder, TextEncoder):
            pieces = self._encoder.encode(*columns)
            return _arrays(pieces, _values(labels, self.task, rows.num_rows)), _facts(pieces)
        if isinstance(self._encoder, WordEncoder):
            return _tagged(self._encoder, columns[0], labels)
        return _windowed(self._encoder, columns, labels)

    def _refuse_other_kind(self, rows: pa.Table) -> None:
        """Images for a model of texts, or texts for one of images."""
        are_images = pa.types.is_large_binary(rows.schema.field(self.task.texts[0]).type)
        if are_images != isinstance(self._encoder, ImageEncoder):
            has, reads = ("images", "texts") if are_images else ("texts", "images")
            raise DataError(f"'{self.task.name}' has {has}, and the model reads {reads}. Choose another --model.")

    def key(self, rows: pa.Table) -> str:
        """A name for the arrays of these rows: it changes with anything that they depend on."""
        task = self.task
        parts = {
            "format": FORMAT,
            "rows": content_key(rows),
            "task": [task.kind, list(task.texts), task.label, task.max_length, task.stride],
            "tokenizer": tokenizer_key(self.tokenizer),
            "tokenizers": tokenizers.__version__,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def tokenizer_key(tokenizer: Any) -> str:
    """A hex key over everything that decides which pieces a tokenizer makes, or which pixels a processor."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return hashlib.sha256(f"{type(tokenizer).__name__} {tokenizer.to_json_string()}".encode()).hexdigest()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        state = json.dumps([sorted(tokenizer.get_vocab().items()), repr(sorted(tokenizer.init_kwargs.items()))])
    else:  # padding and truncation are left out: calls change them, and bitfit sets its own
        document = json.loads(backend.to_str())
        state = json.dumps({name: part for name, part in document.items() if name not in ("padding", "truncation")})
    settings = [type(tokenizer).__name__, tokenizer.truncation_side, list(tokenizer.model_input_names)]
    return hashlib.sha256(json.dumps([state, settings]).encode()).hexdigest()


def as_examples(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], rows: pa.Table, task: Task) -> Examples:
    """The noun around the arrays; what scoring needs beside the pieces goes into its source."""
    source: dict[str, Any] = {name: array for name, array in arrays.items() if name not in _EXAMPLE_ARRAYS}
    if task.kind == "span":
        source.update(rows=rows, context=task.texts[1], answers=task.label)
    return Examples(
        ids=arrays["ids"],
        types=arrays["types"],
        offsets=arrays["offsets"],
        labels=arrays["labels"],
        truncated=int(facts["truncated"]),
        source={**source, **{name: fact for name, fact in facts.items() if name != "truncated"}},
    )


def said(split: str, examples: Examples, task: Task) -> list[str]:
    """What to say aloud about a split: what was cut, what was lost."""
    notes = []
    rows = len(examples.source["rows"]) if task.kind == "span" else len(examples)
    if examples.truncated:
        what = {"span": "questions", "tags": "sentences"}.get(task.kind, "texts")
        limit = examples.source.get("question_pieces", task.max_length)
        notes.append(f"{split}: {examples.truncated:,} of {rows:,} {what} longer than {limit} tokens")
    if examples.source.get("words_lost"):
        notes.append(f"{split}: {examples.source['words_lost']:,} words were cut off or made no piece: not scored")
    if task.kind == "span":
        notes.append(f"{split}: {rows:,} questions in {len(examples):,} windows")
    if examples.source.get("misplaced"):
        notes.append(f"{split}: {examples.source['misplaced']:,} answers are not at their place: no answer to learn")
    return notes


def _split(rows: pa.Table, encoder: ExampleEncoder, folder: Path | None) -> Examples:
    if folder is None:
        return encoder.examples(rows)
    key = encoder.key(rows)
    stored = maybe_get_entry(folder, key)
    if stored is None:
        put_entry(folder, key, *encoder.arrays(rows))
        stored = maybe_get_entry(folder, key) or encoder.arrays(rows)
    return as_examples(*stored, rows, encoder.task)


def _encoder(task: Task, tokenizer: Any) -> TextEncoder | WordEncoder | WindowEncoder | ImageEncoder:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return ImageEncoder(tokenizer)
    if task.kind == "tags":
        return WordEncoder(tokenizer, task.max_length)
    if task.kind == "span":
        return WindowEncoder(tokenizer, task.max_length, task.stride)
    return TextEncoder(tokenizer, task.max_length)


def _arrays(pieces: Pieces, labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"ids": pieces.ids, "types": pieces.types, "offsets": pieces.offsets, "labels": labels}


def _pictured(pixels: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """One piece for each image, which stands for its pixels."""
    count = len(pixels)
    pieces = Pieces(np.zeros(count, np.int32), np.zeros(count, np.uint8), np.arange(count + 1, dtype=np.int64), 0)
    return {**_arrays(pieces, labels), "pixels": pixels}


def _facts(pieces: Pieces) -> dict[str, Any]:
    return {"truncated": pieces.truncated}


def _values(labels: pa.ChunkedArray | None, task: Task, rows: int) -> NDArray[Any]:
    if task.kind == "number":
        return np.full(rows, np.nan, np.float32) if labels is None else labels.to_numpy().astype(np.float32)
    return np.full(rows, -1, np.int64) if labels is None else labels.to_numpy().astype(np.int64)


def _tagged(
    encoder: WordEncoder, sentences: Sequence[Sequence[str]], labels: pa.ChunkedArray | None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    words = encoder.encode(sentences)
    if labels is None:
        values = np.full(len(words.word), -100, np.int64)
    else:
        values = tags_at_starts(words, [np.array(row, np.int64) for row in labels.to_pylist()])
    lost = sum(len(sentence) for sentence in sentences) - int((words.word >= 0).sum())
    counts = np.array([len(sentence) for sentence in sentences], np.int64)
    arrays = {**_arrays(words.pieces, values), "word": words.word, "words": counts}
    return arrays, {**_facts(words.pieces), "words_lost": lost}


def _windowed(
    encoder: WindowEncoder, columns: Sequence[Sequence[str]], labels: pa.ChunkedArray | None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    questions, contexts = columns
    windows = encoder.encode(questions, contexts)
    gold = [None] * len(questions) if labels is None else gold_characters(labels.to_pylist(), contexts)
    misplaced = 0 if labels is None else sum(answer is None for answer in gold)
    arrays = _arrays(windows.pieces, answer_pieces(windows, gold))
    source: dict[str, NDArray[Any]] = {"row": windows.row, "start": windows.start, "end": windows.end}
    facts = {"question_pieces": encoder.question_pieces, "misplaced": misplaced}
    return {**arrays, **source}, {**_facts(windows.pieces), **facts}
