"""Tokenizes a task's rows into examples, and keeps them on disk under a key, as memory maps.

A damaged entry counts as absent.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import tokenizers
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from bitfit.data.encode.spans import WindowEncoder, answer_pieces, gold_characters
from bitfit.data.encode.texts import Pieces, TextEncoder, WordEncoder, tags_at_starts
from bitfit.data.examples import Examples, TaskData
from bitfit.data.read.images import ImageEncoder
from bitfit.data.table import TaskTable, content_key
from bitfit.data.task import Task
from bitfit.errors import DataError
from bitfit.files import cache_folder, whole_folder

Arrays = Mapping[str, NDArray[Any]]
_NOTE = "entry.json"  # written last; an entry without it is not whole
FORMAT = 2  # raise when the arrays change their meaning: older entries are then not found
_EXAMPLE_ARRAYS = ("ids", "types", "offsets", "labels")


def maybe_get_entry(folder: Path, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The arrays and facts stored under the key, or None."""
    entry = folder / key
    try:
        note = json.loads((entry / _NOTE).read_text())
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in note["arrays"]}
        if {name: list(array.shape) for name, array in arrays.items()} != note["arrays"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return arrays, note["facts"]


def put_entry(folder: Path, key: str, arrays: Arrays, facts: Mapping[str, Any]) -> bool:
    """Store arrays and facts under the key; False, and nothing left, where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder / key) as made:
            _write(made, arrays, facts)
            shutil.rmtree(folder / key, ignore_errors=True)
    except OSError:
        return (folder / key / _NOTE).exists()  # another process may have been first
    return True


def _write(entry: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    for name, array in arrays.items():
        with (entry / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    (entry / _NOTE).write_text(json.dumps({"arrays": shapes, "facts": dict(facts)}))


def tokenize(
    table: TaskTable,
    tokenizer: Any,
    *,
    cache: Path | Literal["user"] | None = "user",
) -> TaskData:
    """Every split of a task as examples; from the cache where the same content was tokenized before.

    A task of images takes the image model's processor in the tokenizer's place.
    """
    folder = cache_folder() if cache == "user" else cache
    encoder = ExampleEncoder(table.task, tokenizer)
    splits = {
        name: _split(rows, encoder, None if folder is None else folder / "tokens")
        for name, rows in table.splits.items()
    }
    notes = [
        *table.notes,
        *(note for name, split in splits.items() for note in _notes(name, split, table.task)),
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
        columns = [rows[column].to_pylist() for column in self.task.texts]
        self._refuse_other_kind(rows)
        labels = rows[self.task.label] if self.task.label in rows.column_names else None
        if isinstance(self._encoder, ImageEncoder):
            return _pictured(self._encoder.pixels(columns[0]), _values(labels, self.task, rows.num_rows))
        if isinstance(self._encoder, TextEncoder):
            return _examples(self._encoder.encode(*columns), _values(labels, self.task, rows.num_rows))
        if isinstance(self._encoder, WordEncoder):
            return _tagged(self._encoder, columns[0], labels)
        return _windowed(self._encoder, columns, labels, _questions(rows, self.task))

    def _refuse_other_kind(self, rows: pa.Table) -> None:
        """Images for a model of texts, or texts for one of images."""
        are_images = pa.types.is_large_binary(rows.schema.field(self.task.texts[0]).type)
        if are_images != isinstance(self._encoder, ImageEncoder):
            has, reads = ("images", "texts") if are_images else ("texts", "images")
            raise DataError(f"'{self.task.name}' has {has}, and the model reads {reads}. Choose another model.")

    def key(self, rows: pa.Table) -> str:
        """A name for the examples of these rows: it changes with anything that they depend on."""
        task = self.task
        parts = {
            "format": FORMAT,
            "rows": content_key(rows),
            "task": [task.kind, list(task.texts), task.label, task.max_length, task.stride, *_width(task)],
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


def _notes(split: str, examples: Examples, task: Task) -> list[str]:
    """What is worth saying about a split: what was cut, what was lost."""
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
    """A split's examples, read from the disk where they are there, as memory maps."""
    if folder is None:
        return encoder.examples(rows)
    key = encoder.key(rows)
    stored = maybe_get_entry(folder, key)
    if stored is None:
        examples = encoder.examples(rows)
        put_entry(folder, key, *_to_store(examples))
        stored = maybe_get_entry(folder, key)
        if stored is None:  # a folder that cannot be written
            return examples
    return _restored(*stored, _questions(rows, encoder.task))


def _to_store(examples: Examples) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of examples by name, and the numbers; the table of questions is the rows themselves."""
    arrays = {name: getattr(examples, name) for name in _EXAMPLE_ARRAYS}
    arrays |= {name: value for name, value in examples.source.items() if isinstance(value, np.ndarray)}
    numbers = {name: value for name, value in examples.source.items() if isinstance(value, int)}
    return arrays, {"truncated": examples.truncated, **numbers}


def _restored(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], questions: Mapping[str, Any]) -> Examples:
    source = {name: array for name, array in arrays.items() if name not in _EXAMPLE_ARRAYS}
    numbers = {name: fact for name, fact in facts.items() if name != "truncated"}
    example_arrays = {name: arrays[name] for name in _EXAMPLE_ARRAYS}
    return Examples(**example_arrays, truncated=int(facts["truncated"]), source={**source, **questions, **numbers})


def _width(task: Task) -> list[int]:
    """How many labels an example's row has, where it has one of them all."""
    return [len(task.labels)] if task.kind == "labels" else []


def _questions(rows: pa.Table, task: Task) -> dict[str, Any]:
    """What scoring a span needs beside the pieces."""
    return {"rows": rows, "context": task.texts[1], "answers": task.label} if task.kind == "span" else {}


def _encoder(task: Task, tokenizer: Any) -> TextEncoder | WordEncoder | WindowEncoder | ImageEncoder:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return ImageEncoder(tokenizer)
    if task.kind == "tags":
        return WordEncoder(tokenizer, task.max_length)
    if task.kind == "span":
        return WindowEncoder(tokenizer, task.max_length, task.stride)
    return TextEncoder(tokenizer, task.max_length)


def _examples(pieces: Pieces, labels: NDArray[Any], source: Mapping[str, Any] | None = None) -> Examples:
    return Examples(pieces.ids, pieces.types, pieces.offsets, labels, pieces.truncated, source or {})


def _pictured(pixels: NDArray[np.float32], labels: NDArray[Any]) -> Examples:
    """One piece for each image, which stands for its pixels."""
    count = len(pixels)
    pieces = Pieces(np.zeros(count, np.int32), np.zeros(count, np.uint8), np.arange(count + 1, dtype=np.int64), 0)
    return _examples(pieces, labels, {"pixels": pixels})


def _values(labels: pa.ChunkedArray | None, task: Task, rows: int) -> NDArray[Any]:
    if task.kind == "number":
        return np.full(rows, np.nan, np.float32) if labels is None else labels.to_numpy().astype(np.float32)
    if task.kind == "labels":
        return _indicators(labels, len(task.labels), rows)
    return np.full(rows, -1, np.int64) if labels is None else labels.to_numpy().astype(np.int64)


def _indicators(labels: pa.ChunkedArray | None, many: int, rows: int) -> NDArray[np.int8]:
    """A row of 0 and 1 for each text."""
    if labels is None:
        return np.full((rows, many), -1, np.int8)
    lists = labels.to_pylist()
    values = np.zeros((rows, many), np.int8)
    values[np.repeat(np.arange(rows), list(map(len, lists))), [index for each in lists for index in each]] = 1
    return values


def _tagged(encoder: WordEncoder, sentences: Sequence[Sequence[str]], labels: pa.ChunkedArray | None) -> Examples:
    words = encoder.encode(sentences)
    if labels is None:
        values = np.full(len(words.word), -100, np.int64)
    else:
        values = tags_at_starts(words, [np.array(row, np.int64) for row in labels.to_pylist()])
    lost = sum(len(sentence) for sentence in sentences) - int((words.word >= 0).sum())
    counts = np.array([len(sentence) for sentence in sentences], np.int64)
    return _examples(words.pieces, values, {"word": words.word, "words": counts, "words_lost": lost})


def _windowed(
    encoder: WindowEncoder,
    columns: Sequence[Sequence[str]],
    labels: pa.ChunkedArray | None,
    rows: Mapping[str, Any],
) -> Examples:
    questions, contexts = columns
    windows = encoder.encode(questions, contexts)
    gold = [None] * len(questions) if labels is None else gold_characters(labels.to_pylist(), contexts)
    misplaced = 0 if labels is None else sum(answer is None for answer in gold)
    source = {"row": windows.row, "start": windows.start, "end": windows.end, **rows}
    facts = {"question_pieces": encoder.question_pieces, "misplaced": misplaced}
    return _examples(windows.pieces, answer_pieces(windows, gold), {**source, **facts})
