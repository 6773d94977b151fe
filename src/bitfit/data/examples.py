"""Tokenized examples, laid end to end without padding."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.data.task import Task
from bitfit.files import raw


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """One split: example i's pieces are ids[offsets[i]:offsets[i + 1]]. Arrays may be memory maps."""

    ids: NDArray[np.int32]  # (tokens,)
    types: NDArray[np.uint8]  # (tokens,) token type: 0 first text, 1 second
    offsets: NDArray[np.int64]  # (examples + 1,)
    # class: int64 (examples,), -1 unknown; labels: int8 (examples, labels), 1 where it is one, else 0, -1 unknown;
    # number: float32 (examples,); tags: int64 (tokens,), -100 where no word begins; span: int64 (examples, 2), first
    # and last piece in the window, (0, 0) where no answer is
    labels: NDArray[Any]
    truncated: int = 0  # texts that were longer than the maximum length
    # What scoring and answering need beside the pieces.
    # tags: `word` (tokens,), the number of the word that begins at each piece, -1 where none does; `words`
    # (sentences,), how many words there are.
    # span: `row` (windows,), the question that each window is of; `start` and `end` (tokens,), each piece's
    # characters in the context, -1 outside; `rows`, the table of questions; `context`, `answers`, its columns.
    # images: one piece for each, and `pixels` (images, channels, height, width)
    source: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Examples({len(self):,} of {len(self.ids):,} pieces)"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Pieces of each example."""
        return np.diff(self.offsets)

    def tokens_of(self, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the pieces of these examples lie in the split, end to end."""
        return np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in which])

    def only(self, which: NDArray[np.int64]) -> "Examples":
        """These examples alone, in this order."""
        pieces = self.tokens_of(which) if len(which) else which
        cuts = {len(self): which, len(self.ids): pieces}
        source = {
            name: values[cuts[len(values)]] if isinstance(values, np.ndarray) and len(values) in cuts else values
            for name, values in self.source.items()
        }
        return replace(
            self,
            ids=self.ids[pieces],
            types=self.types[pieces],
            offsets=np.concatenate(([0], np.cumsum(self.lengths[which]))),
            labels=self.labels[pieces if len(self.labels) == len(self.ids) else which],
            source=source,
        )


@dataclass(frozen=True, eq=False, repr=False)
class TaskData:
    """A task with its tokenized splits: train, validation, test, or more by name."""

    task: Task
    splits: Mapping[str, Examples]
    notes: tuple[str, ...] = ()  # shown before training
    measured_on: Mapping[str, str] = field(default_factory=dict)  # split -> "7,469 of 9,815": what a score is of

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} {len(split):,}" for name, split in self.splits.items())
        return f"TaskData({self.task.name!r}: {splits} examples)"


def measured_json(measured_on: Mapping[str, str]) -> dict[str, Any]:
    """The rows of each split as numbers: 5002, or {"rows": 7469, "of": 9815} of a part."""
    sizes: dict[str, Any] = {}
    for split, text in measured_on.items():
        rows, *of = (int(number.replace(",", "")) for number in text.split(" of "))
        sizes[split] = {"rows": rows, "of": of[0]} if of else rows
    return sizes


def measured_text(value: Any) -> str:
    """One of those values in words: "5,002", "7,469 of 9,815". Older files have the words themselves."""
    if isinstance(value, dict):  # a file sorts its keys
        return " of ".join(measured_text(value[name]) for name in ("rows", "of") if name in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def digest(examples: Examples) -> str:
    """A short name of a split's content."""
    total = hashlib.blake2b(digest_size=8)
    pixels = examples.source.get("pixels")
    for array in (
        examples.ids,
        examples.types,
        examples.offsets,
        examples.labels,
        *([] if pixels is None else [pixels]),
    ):
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(raw(np.ascontiguousarray(array)))
    return total.hexdigest()
