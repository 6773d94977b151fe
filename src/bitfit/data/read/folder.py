"""Which files of a folder are train, validation and test."""

import re
from pathlib import Path

from bitfit.data.read.formats import READERS
from bitfit.errors import DataError

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


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
