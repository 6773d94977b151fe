"""A folder written whole or not at all, where none was; knows nothing of what goes in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitfit.errors import DeltaError
from bitfit.files import part_beside


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
