"""Train, validation and test: the files of a folder, and rows drawn by a seed.

Of numpy only the raw stream of a bit generator is used, which it promises never to change, so that a seed means
the same rows in every version.
"""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bitfit.data.read.formats import READERS
from bitfit.errors import DataError

SPLIT_SEED = 2022  # every split that bitfit holds out by itself; never the user's seed, so that runs compare
HELD_OUT = 0.1
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def permutation(rows: int, seed: int) -> NDArray[np.int64]:
    """The numbers 0 to rows - 1, shuffled by the seed."""
    draws = np.random.PCG64(seed).random_raw(rows)
    return np.argsort(np.asarray(draws), kind="stable").astype(np.int64)


def shuffled(table: pa.Table, seed: int = SPLIT_SEED) -> pa.Table:
    """The same rows in an order drawn by the seed."""
    return table.take(permutation(table.num_rows, seed))


def sample(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """Rows drawn by the seed, kept in their order; a draw of more rows holds every draw of fewer."""
    return table.take(np.sort(permutation(table.num_rows, seed)[:rows]))


def hold_out(
    table: pa.Table, classes: NDArray[np.int64] | None = None, share: float = HELD_OUT
) -> tuple[pa.Table, pa.Table]:
    """What stays and what is held out; with classes, the same share of each (at least one row where two)."""
    order = permutation(table.num_rows, SPLIT_SEED)
    groups = np.zeros(table.num_rows, np.int64) if classes is None else classes
    held_out = np.zeros(table.num_rows, bool)
    for group in np.unique(groups):
        members = order[groups[order] == group]
        held_out[members[: _share(len(members), share)]] = True
    return table.filter(pa.array(~held_out)), table.filter(pa.array(held_out))


def held_out_note(validation: pa.Table, by_class: bool, what: str = "rows") -> str:
    """The note about a validation split that `hold_out` made."""
    how = "of each class " if by_class else ""
    return f"validation: {validation.num_rows:,} {what}, {HELD_OUT:.0%} {how}held out of train by a fixed seed"


def _share(rows: int, share: float) -> int:
    return min(max(round(rows * share), 1), rows - 1)


def split_files(path: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Our split -> its files in order, and notes; a single file is train."""
    if path.is_file():
        return {"train": [path]}, ()
    files_of: dict[str, list[Path]] = {}
    ignored: list[str] = []
    for entry in sorted(path.iterdir()):
        split = split_of(entry.stem if entry.is_file() else entry.name)
        files = [entry] if entry.is_file() else sorted(entry.iterdir()) if split else []
        files = [file for file in files if file.suffix.lower() in READERS]
        if split and files:
            files_of.setdefault(split, []).extend(files)
        elif not entry.name.startswith("."):
            ignored.append(entry.name)
    _check(path, files_of, ignored)
    order = {split: files_of[split] for split in SPLIT_WORDS if split in files_of}
    return order, (f"not read: {', '.join(ignored)}",) if ignored else ()


def split_of(name: str) -> str | None:
    """The split that a file's name speaks of: 'train', 'en_ewt-ud-train', 'train-00000-of-00002'."""
    words = set(re.split(r"[-_.\s]+", name.lower()))
    matching = [split for split, spellings in SPLIT_WORDS.items() if words & set(spellings)]
    return matching[0] if len(matching) == 1 else None


def _check(path: Path, files_of: dict[str, list[Path]], ignored: list[str]) -> None:
    if "train" not in files_of:
        kinds = ", ".join(READERS)
        raise DataError(
            f"The folder {path} has no train file: expected names such as train.csv, validation.csv and "
            f"test.csv (kinds: {kinds}); found {', '.join([*files_of, *ignored]) or 'nothing'}."
        )
    for split, files in files_of.items():
        suffixes = sorted({file.suffix.lower() for file in files})
        if len(suffixes) > 1:
            raise DataError(f"The folder {path} holds {split} in several kinds ({', '.join(suffixes)}): keep one.")
