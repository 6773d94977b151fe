"""Arrays kept on disk under a key and read as memory maps.

A damaged entry counts as absent.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.files import whole_folder

Arrays = Mapping[str, NDArray[Any]]
_NOTE = "entry.json"  # written last; an entry without it is not whole


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
