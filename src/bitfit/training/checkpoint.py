"""Checkpoints: what a run needs to go on after a kill, in a folder beside its result.

Each is one safetensors file with a JSON document and a checksum; it is written whole or not at all, and the last two
are kept. How often depends on what they cost.
"""

import json
import math
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bitfit.errors import RequestError, TrainingError
from bitfit.files import clear_parts, lock_file, raw, write_whole

FORMAT = 2  # raise when a state changes its meaning: older checkpoints are then refused
KEPT = 2
EVERY_S = 5.0
MOST_SHARE = 0.008  # of the training's time
FIRST_RATE = 400e6  # bytes a second that a disk is trusted to take until one has been written
HEADER_ROOM = 8 << 20  # bytes; a grid of rows with long histories needs a few hundred KB
TYPES = {"F32": np.float32, "I16": np.int16, "I64": np.int64, "U8": np.uint8}  # safetensors' words
# Keys of the file's metadata; the first sum is of the document, the second of the tensors and their table.
DOCUMENT, DOCUMENT_SUM, TENSORS_SUM = "bitfit-checkpoint", "document-crc32", "tensors-crc32"


@dataclass(frozen=True, eq=False)
class State:
    """A run between two steps: everything that the rest of it depends on."""

    facts: Mapping[str, Any]  # JSON values
    tensors: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoints:
    """Where a run keeps its checkpoints, and how many seconds lie between two (0: none are written)."""

    folder: Path
    every: float = EVERY_S

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))  # a text is as good
        if not 0 <= self.every < math.inf:
            raise RequestError(f"Expected 0 or more seconds between two checkpoints; found {self.every}.")

    @classmethod
    def beside(cls, out: Path, every: float = EVERY_S) -> "Checkpoints":
        """The folder that belongs to a result's file."""
        return cls(out.with_name(out.name + ".checkpoint"), every)

    def within(self, name: str) -> "Checkpoints":
        """A folder of its own for one of several trainings that follow one another."""
        return Checkpoints(self.folder / name, self.every)

    @property
    def exist(self) -> bool:
        """Has a run left something to go on from?"""
        return any(self.folder.glob("**/step-*.safetensors"))

    def maybe_get_about(self) -> dict[str, Any] | None:
        """What the newest readable checkpoint says of its run: what it was asked, and its surroundings."""
        for path in sorted(self.folder.glob("**/step-*.safetensors"), reverse=True):
            try:
                with path.open("rb") as file:
                    document = _document(_header(file.read(HEADER_ROOM))[0]["__metadata__"])
                    return {name: document[name] for name in ("asked", "surroundings")}
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def remove(self) -> None:
        """The run is over, and its result is safe."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While the block runs, no other process can train here."""
        lock = _locked(self.folder)
        try:
            yield
        finally:
            lock.close()
            if not self.exist:
                self.remove()


class CheckpointWriter:
    """Writes a run's checkpoints while it trains, and keeps others out of their folder.

    `asked` is what the run is to do: a checkpoint of another run is refused. `surroundings` are what may change a
    result's last bits, like the number of threads: where they differ, a note says so.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        asked: Mapping[str, Any],
        surroundings: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.checkpoints, self.say = checkpoints, say
        self.about = {"format": FORMAT, "asked": dict(asked), "surroundings": dict(surroundings)}
        self.began = self.last = time.monotonic()
        self.spent = 0.0  # seconds that checkpoints took
        self.cost = 0.0  # seconds that the last one took, 0 while unknown
        self.lock = _locked(checkpoints.folder)
        clear_parts(checkpoints.folder)

    def latest(self) -> State | None:
        """The newest whole state of this very run."""
        files = self._files()
        for path in files:
            try:
                about, state = read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.say(f"{path} is damaged ({error}) and is passed over")
                continue
            self._refuse_another(about)
            return state
        if files:
            self.say("No checkpoint is whole: starting from the beginning")
        return None

    def write_when_due(self, step: int, state: Callable[[], State], last: bool = False) -> None:
        """Write a checkpoint if one is due. The last one need not wait for its time, but may not cost too much."""
        now = time.monotonic()
        if not last and now - self.last < self.checkpoints.every:
            return
        taken = state()
        cost = self.cost or sum(tensor.nbytes for tensor in taken.tensors.values()) / FIRST_RATE
        if self.spent + cost > MOST_SHARE * (now - self.began):
            return
        self._write(self.checkpoints.folder / f"step-{step:010d}.safetensors", taken)
        self.last = time.monotonic()
        self.cost = self.last - now
        self.spent += self.cost

    def close(self) -> None:
        """Let others use the folder; what it holds stays."""
        self.lock.close()

    def _files(self) -> list[Path]:
        """The newest first."""
        return sorted(self.checkpoints.folder.glob("step-*.safetensors"), reverse=True)

    def _write(self, path: Path, state: State) -> None:
        """Write one, then forget all but the last two; on a full disk the older ones make room."""
        try:
            try:
                write_whole(path, pieces(self.about, state))
            except OSError:
                self._forget(self._files()[1:])
                write_whole(path, pieces(self.about, state))
        except OSError as error:
            size = sum(tensor.nbytes for tensor in state.tensors.values()) / 1e6
            start = "its last checkpoint" if self._files() else "its beginning, since this was the first checkpoint"
            raise TrainingError(
                f"The checkpoint {path} cannot be written: {error.strerror or error}. It needs {size:,.1f} MB. Nothing "
                "is lost but seconds: make room (or the folder writable) and give the same command again, and the run "
                f"goes on from {start}."
            ) from error
        self._forget(self._files()[KEPT:])

    def _forget(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def _refuse_another(self, about: Mapping[str, Any]) -> None:
        """A checkpoint of another run, or of another bitfit's format, is not gone on from."""
        wrong = differences(about["asked"], self.about["asked"])
        if about["format"] != FORMAT:
            wrong = [f"format {about['format']} there, {FORMAT} here"]
        if wrong:
            raise RequestError(
                f"{self.checkpoints.folder} holds the checkpoint of another run: {'; '.join(wrong)}. Give that run's "
                "settings to go on with it, choose another `Checkpoints(folder=...)`, or start afresh with "
                "`Checkpoints.remove()`."
            )
        changed = differences(about["surroundings"], self.about["surroundings"])
        if changed:
            self.say(f"The last bits may differ from those of an undisturbed run: {'; '.join(changed)}")


def differences(saved: Any, wanted: Any, name: str = "") -> list[str]:
    """What two JSON values disagree in, in words, each with its place."""
    if isinstance(saved, Mapping) and isinstance(wanted, Mapping):
        keys = dict.fromkeys([*saved, *wanted])
        return [text for key in keys for text in differences(saved.get(key), wanted.get(key), f"{name} {key}".strip())]
    if isinstance(saved, list) and isinstance(wanted, list) and len(saved) == len(wanted):
        pairs = enumerate(zip(saved, wanted, strict=True), start=1)
        return [text for i, (a, b) in pairs for text in differences(a, b, f"{name} {i}".strip())]
    if saved == wanted:
        return []
    return [f"{name}: {_short(saved)} there, {_short(wanted)} here"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---------------------------------------------------------------------- the file


def pieces(about: Mapping[str, Any], state: State) -> Iterator[bytes | memoryview]:
    """A file's bytes. The tensors are handed over as they lie in memory: a large state is not copied."""
    words = {np.dtype(kind): word for word, kind in TYPES.items()}
    arrays = {name: np.ascontiguousarray(state.tensors[name]) for name in sorted(state.tensors)}
    document = json.dumps({**about, "facts": state.facts})
    header: dict[str, Any] = {}
    start = 0
    for name, array in arrays.items():
        offsets = [start, start + array.nbytes]
        header[name] = {"dtype": words[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        start += array.nbytes
    check = _table_sum(header)
    for array in arrays.values():
        check = zlib.crc32(raw(array), check)
    sums = {DOCUMENT_SUM: _word(zlib.crc32(document.encode())), TENSORS_SUM: _word(check)}
    header["__metadata__"] = {DOCUMENT: document, **sums}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield from (raw(array) for array in arrays.values())


def read(path: Path) -> tuple[dict[str, Any], State]:
    """What a file says about its run, and the state; a ValueError where it is damaged."""
    data = path.read_bytes()
    header, start = _header(data)
    metadata = header.pop("__metadata__")
    about = _document(metadata)
    if _word(zlib.crc32(data[start:], _table_sum(header))) != metadata[TENSORS_SUM]:
        raise ValueError("its checksum is wrong")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[start + begin : start + end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).copy()  # a copy may be written, and lies as torch likes it
    return about, State(about.pop("facts"), tensors)


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON header, and where the tensors begin."""
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise ValueError("it is cut off")
    header: dict[str, Any] = json.loads(data[8:start])
    return header, start


def _document(metadata: Mapping[str, str]) -> dict[str, Any]:
    if _word(zlib.crc32(metadata[DOCUMENT].encode())) != metadata[DOCUMENT_SUM]:
        raise ValueError("its checksum is wrong")
    document: dict[str, Any] = json.loads(metadata[DOCUMENT])
    return document


def _table_sum(header: Mapping[str, Any]) -> int:
    """Of which tensor is what, and where."""
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())


def _word(check: int) -> str:
    return f"{check:08x}"


def _locked(folder: Path) -> IO[bytes]:
    """Make the folder and hold it: two processes must not train the same run. The system lets go after a kill."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock_file(folder / "lock")
    except BlockingIOError:
        raise TrainingError(
            f"Another process is training this run: it holds {folder}. Wait for it, or choose another "
            "`Checkpoints(folder=...)`."
        ) from None
    except OSError as error:
        raise TrainingError(
            f"Checkpoints cannot be kept in {folder}: {error.strerror or error}. Choose another "
            "`Checkpoints(folder=...)`, or train without them: `Checkpoints(every=0)`."
        ) from error
