"""Files written whole or not at all; knows nothing of what they hold."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bitfit.errors import DeltaError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_whole(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write the parts end to end: anybody sees the old file or the new one, also after a crash or on a full disk."""
    temporary = part_beside(path)
    try:
        with temporary.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write to; it becomes `target` when the block ends well, and is gone when it does not."""
    if target.exists():
        raise DeltaError(f"A new folder was expected; '{target}' is already there. Choose another --out.")
    temporary = part_beside(target)
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(target)
    except OSError as error:
        raise DeltaError(f"'{target}' cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def held(path: Path) -> IO[bytes]:
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
