"""Files and folders written whole or not at all, locks, and the cache folder."""

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bitfit.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_whole(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write the parts end to end: anybody sees the old file or the new one, also after a crash or on a full disk."""
    with writing_whole(path) as file:
        file.writelines(parts)


@contextmanager
def writing_whole(path: Path, room: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write to; it becomes `path` when the block ends well, and is gone when it does not.

    Until then it lies in the folder `room`, which is on the same disk; else beside `path`.
    """
    temporary = part_beside(path if room is None else room / path.name)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write to; it becomes `target` when the block ends well, and is gone when it does not."""
    temporary = part_beside(target)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """The same for a folder that somebody asks for: one that is there already, or cannot be written, is refused."""
    if target.exists():
        raise RequestError(f"'{target}' exists already. A new folder is needed: choose another.")
    try:
        with whole_folder(target) as folder:
            yield folder
    except OSError as error:
        raise RequestError(f"'{target}' cannot be written: {error.strerror or error}.") from error


def cache_folder() -> Path:
    """Where bitfit keeps what it can make again: BITFIT_CACHE, else the user's cache folder."""
    if given := os.environ.get("BITFIT_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bitfit"


def strict_json(text: str | bytes) -> Any:
    """JSON as the standard has it, no name twice in an object and no number out of range; ValueError otherwise."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return document


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:40]} is too large")
    return value


def part_beside(path: Path) -> Path:
    """A name that nobody else uses, for what is to become `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def file_name(text: str) -> str:
    """A label as part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text).strip("-.")


def raw(array: "NDArray[Any]") -> memoryview:
    """An array's bytes; they must lie end to end, and are not copied."""
    return array.reshape(-1).view("u1").data


def clear_parts(folder: Path) -> None:
    """Remove what writers that were killed left in a folder. Nobody else may be writing there."""
    for left in folder.glob(".*.part"):
        left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the rename outlast a power cut. Systems that cannot open a folder have no need of it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(path: Path) -> IO[bytes]:
    """An open file that one process at a time can have; BlockingIOError while another has it.

    Closing it lets go, and so does the end of the process, however it comes.
    """
    file = path.open("ab")
    if os.name == "posix":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise BlockingIOError from None
    return file
