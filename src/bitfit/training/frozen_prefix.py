"""Keeps the outputs of the layers below all that trains, so that they run once.

They have no dropout then, whether their answers are kept or not. Where the head alone trains, these are all layers. The
values lie in memory-mapped files in the cache folder, which together have a limit.
"""

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.data.examples import Examples, TaskData, digest
from bitfit.files import cache_folder, lock_file, raw, write_whole
from bitfit.inference.outputs import batch_of, by_length, pass_tokens
from bitfit.inference.pass_budget import Budget
from bitfit.runtime.row_model import RowModel

FORMAT = 2  # raise when the values change their meaning: older entries are then not found
DISK_LIMIT = 4 << 30  # bytes of all entries together
MEMORY_LIMIT = 1 << 30  # bytes of one split, where the disk takes none
NOTED_EVERY_S = 5.0  # how much work a kill may cost
VALUES, DONE, LOCK = "values", "done.json", "lock"  # an entry's files


@dataclass(frozen=True, eq=False)
class States:
    """What lies at the boundary: of each token, (tokens, size), or one of each example, (examples, size)."""

    values: NDArray[Any]  # bf16 as its bits, in int16
    per_token: bool

    def of(self, examples: Examples, which: NDArray[np.int64]) -> Tensor:
        """Those of some examples, end to end."""
        states = self.values[examples.tokens_of(which) if self.per_token else which]
        tensor = torch.from_numpy(np.ascontiguousarray(states))
        return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


def chosen_boundary(model: RowModel, names: Sequence[str], wanted: bool | None, say: Callable[[str], None]) -> int:
    """How many layers answer once for all epochs; `names` are the task model's parameters that change.

    Where nothing is wanted, all or none: only with the head alone. A note says what was wanted and cannot be.
    """
    below = 0 if wanted is False else model.layers_below(names)
    if wanted is None:
        return below if below == model.layers else 0
    if wanted and not below:
        if not model.packed:
            why = "this architecture runs on padded batches"
        elif not model.in_turn:
            why = "the layers of this architecture do not simply follow one another"
        else:
            why = "something trains in the lowest layer or in the embeddings"
        say(f"No prefix cache: {why}. Every layer runs in every epoch, with dropout")
    return below


def needed(data: TaskData, model: RowModel) -> dict[str, int]:
    """Bytes of each split's states that will be kept; a split that does not fit beside those before it has none."""
    return _fitting(data, model, _sample(model, data))


def _fitting(data: TaskData, model: RowModel, sample: Tensor) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, examples in data.splits.items():
        size = _entries(model, examples) * sample.shape[1] * sample.element_size()
        sizes |= {name: size} if sum(sizes.values()) + size <= DISK_LIMIT else {}
    return sizes


def with_states(data: TaskData, model: RowModel, about: Mapping[str, Any], say: Callable[[str], None]) -> TaskData:
    """The same data, with the states at the model's boundary; a split that needs too much room stays as it is.

    `about` is all that the states depend on beside the examples, the boundary and the head's pooling.
    """
    sample = _sample(model, data)
    sizes = _fitting(data, model, sample)
    below = "All layers" if model.boundary == model.layers else f"The lowest {model.boundary} of {model.layers} layers"
    total = f"{sum(sizes.values()) / 1e6:,.1f} MB of at most {DISK_LIMIT / 1e6:,.0f}"
    say(f"{below} have no dropout: what they answer stays the same, and is kept on disk ({total})")
    at = {"layer": model.boundary, "reads": model.head.pool if model.boundary_per_text else "tokens"}
    splits = {}
    for name, examples in data.splits.items():
        if name not in sizes:
            say(f"{name}: there is no room for it, so each epoch computes it anew")
            splits[name] = examples
            continue
        about_split = json.dumps([FORMAT, {**about, **at}, digest(examples)], sort_keys=True)
        entry = cache_folder() / "prefix" / hashlib.sha256(about_split.encode()).hexdigest()[:32]
        splits[name] = _with_entry(entry, sample, model, examples, name, say)
    return replace(data, splits=splits)


def _with_entry(
    entry: Path, sample: Tensor, model: RowModel, examples: Examples, name: str, say: Callable[[str], None]
) -> Examples:
    """A split with its states from this entry of the cache, filled where it is not; as it was where there is none."""
    try:
        room = StateFile(entry, (_entries(model, examples), sample.shape[1]), sample.dtype, say)
    except OSError as error:
        say(f"{name}: {entry.parent} takes no states ({error.strerror or 'in use'}): each epoch computes them anew")
        return examples
    states = States(_filled(room, model, examples, name, say), not model.boundary_per_text)
    return replace(examples, source={**examples.source, "states": states})


def _entries(model: RowModel, examples: Examples) -> int:
    """Rows of the array that holds a split's states."""
    return len(examples) if model.boundary_per_text else int(examples.offsets[-1])


class StateFile:
    """An array in a file of the cache, or in memory where the disk takes none, and how far it is filled."""

    def __init__(self, entry: Path, shape: tuple[int, int], dtype: torch.dtype, say: Callable[[str], None]) -> None:
        self.entry, self.shape, self.say = entry, shape, say
        self.kind = np.dtype(np.int16 if dtype == torch.bfloat16 else np.float32)
        self.noted = time.monotonic()
        self.done = 0
        self.lock = None
        try:
            entry.mkdir(parents=True, exist_ok=True)
            self.lock = lock_file(entry / LOCK)
            self.values = self._mapped()
        except OSError as error:
            self.close()
            if self.bytes > MEMORY_LIMIT:
                raise
            say(f"{entry.parent} takes no states ({error.strerror or 'in use'}): kept in memory")
            self.values = np.empty(shape, self.kind)

    @property
    def bytes(self) -> int:
        """What the whole array needs."""
        return self.shape[0] * self.shape[1] * self.kind.itemsize

    def note(self, done: int, now: bool = False) -> None:
        """So many examples are in; with `now`, all. Written down every few seconds: a killed process goes on there."""
        self.done = done
        if self.lock is None or (not now and time.monotonic() - self.noted < NOTED_EVERY_S):
            return
        if isinstance(self.values, np.memmap):
            self.values.flush()
        record = {"done": done} | ({"crc32": zlib.crc32(raw(self.values))} if now else {})
        write_whole(self.entry / DONE, [json.dumps(record).encode()])
        self.noted = time.monotonic()

    def close(self) -> None:
        """Others may use the file; the array stays usable."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def _mapped(self) -> NDArray[Any]:
        """The file's array. Its room is taken at once: a full disk must not show while it is written into."""
        file = self.entry / VALUES
        if not file.exists() or file.stat().st_size != self.bytes:
            _make_room(self.entry, self.bytes)
            (self.entry / DONE).unlink(missing_ok=True)
            with file.open("wb") as new:
                if hasattr(os, "posix_fallocate") and self.bytes:
                    os.posix_fallocate(new.fileno(), 0, self.bytes)
                new.truncate(self.bytes)
        values = np.memmap(file, self.kind, "r+", shape=self.shape)
        try:
            record = json.loads((self.entry / DONE).read_text())
            self.done = int(record["done"])
            if "crc32" in record and record["crc32"] != zlib.crc32(raw(values)):
                self.say(f"{self.entry} is damaged: all of it is computed anew")
                self.done = 0
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.done = 0
        os.utime(self.entry)  # used just now
        return values


def _filled(
    room: StateFile, model: RowModel, examples: Examples, name: str, say: Callable[[str], None]
) -> NDArray[Any]:
    """The states of a split: those that are there, and the rest computed now."""
    budget = Budget(pass_tokens(model), int(examples.lengths.max(initial=1)), say)
    if room.done < len(examples):
        say(f"{name}: reading {len(examples) - room.done:,} examples once, for all epochs")
    try:
        while room.done < len(examples):
            which, states = budget.fit(lambda tokens: _next(model, examples, room.done, tokens))
            bits = states.view(torch.int16) if states.dtype == torch.bfloat16 else states
            room.values[which if model.boundary_per_text else examples.tokens_of(which)] = bits.numpy()
            room.note(room.done + len(which), now=room.done + len(which) == len(examples))
    finally:
        room.close()
    return room.values


def _next(model: RowModel, examples: Examples, done: int, tokens: int) -> tuple[NDArray[np.int64], Tensor]:
    """The next examples in order of length, and their states."""
    which = next(by_length(examples, tokens, done))
    with torch.no_grad():
        return which, model.read(batch_of(examples, which, (len(which),), model.device)).cpu()


def _sample(model: RowModel, data: TaskData) -> Tensor:
    """The states of one example, for their size and type."""
    examples = next(iter(data.splits.values()))
    with torch.no_grad():
        return model.read(batch_of(examples, np.zeros(1, np.int64), (1,), model.device)).cpu()


def _make_room(entry: Path, need: int) -> None:
    """Forget the entries that were not used for longest, until `need` bytes more are within the limit."""
    others = sorted((path for path in entry.parent.iterdir() if path != entry), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in others}
    total = sum(sizes.values())
    for path in others:
        if total + need <= DISK_LIMIT:
            return
        try:
            lock_file(path / LOCK).close()
        except OSError:
            continue  # somebody is filling it
        shutil.rmtree(path, ignore_errors=True)
        total -= sizes[path]
