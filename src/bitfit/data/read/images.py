"""Reads images to classify, from folders or arrays.

An image is one example of one piece, so that batching, labels and scores are those of texts; its pixel values
stand beside the pieces, in `source["pixels"]` (examples, channels, height, width).
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bitfit.data.options import OF_READING, DataOptions, option
from bitfit.data.read.chunk import refused
from bitfit.data.read.split import SPLIT_WORDS, held_out_note, hold_out, split_of
from bitfit.data.table import TaskTable
from bitfit.data.task import Task
from bitfit.data.text_format import TextFormat
from bitfit.errors import DataError, MissingExtraError, RequestError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")
MOST_PIXELS = 100_000_000  # of one image; more is a mistake, or an attack on memory
CHUNK = 64  # images decoded at once
IMAGE, LABEL = "image", "label"


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds `<label>/*.png`, or that below train, validation and test."""
    return path.is_dir() and any(True for split in _split_folders(path).values() for _ in _classes(split))


def image_folder(path: Path, options: DataOptions) -> TaskTable:
    """The task of telling in which folder an image lies."""
    TextFormat.of(options).refuse("a folder of images")
    if options.skip_bad_rows:
        raise RequestError(f"Images have no rows to leave out: {option('skip_bad_rows', True)} is for rows of texts.")
    folders = _split_folders(path)
    if "train" not in folders:
        raise DataError(f"{path} has no train folder; found {', '.join(folders)}.")
    files = {split: dict(_classes(folder)) for split, folder in folders.items()}
    labels = tuple(sorted(files["train"]))
    problems = [
        f"{path / split}: the folder '{label}' is not among those of train ({', '.join(labels)})"
        for split, classes in files.items()
        for label in classes
        if label not in labels
    ]
    rows = {split: _rows(classes, labels, problems) for split, classes in files.items()}
    if problems:
        raise refused(str(path), problems)
    return _table(options.name or path.resolve().name, labels, rows, options)


def image_arrays(
    name: str,
    splits: Mapping[str, tuple[NDArray[np.uint8], Sequence[str]]],
    options: DataOptions | None = None,
) -> TaskTable:
    """The task in arrays (images, height, width, 3) with a label name for each image, by split."""
    if options is not None:
        options.refuse("images in arrays", OF_READING)
    if "train" not in splits:
        raise RequestError(f"Expected a split 'train'; found {', '.join(splits) or 'none'}.")
    labels = tuple(sorted(set(splits["train"][1])))
    rows, problems = {}, []
    for split, (images, names) in splits.items():
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or len(images) != len(names):
            raise RequestError(
                f"{split}: expected uint8 images (images, height, width, 3) and as many labels; "
                f"found {images.dtype} {images.shape} and {len(names)} labels."
            )
        problems += [f"{split}: the label '{label}' is not in train" for label in sorted({*names} - {*labels})]
        known = [labels.index(label) if label in labels else -1 for label in names]
        rows[split] = _arrow([_as_png(image) for image in images], known)
    if problems:
        raise refused(name, problems)
    return _table(name, labels, rows, options or DataOptions())


class ImageEncoder:
    """Turns encoded images into pixel values, as a model's own processor wants them."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def pixels(self, images: Sequence[bytes]) -> NDArray[np.float32]:
        """Pixel values (images, channels, height, width)."""
        parts = [np.zeros((0, 3, 1, 1), np.float32)] if not images else []
        for start in range(0, len(images), CHUNK):
            decoded = [opened(image) for image in images[start : start + CHUNK]]
            values = self.processor(images=decoded, return_tensors="np")["pixel_values"]
            parts.append(np.asarray(values, np.float32))
        return np.concatenate(parts)


def opened(content: bytes) -> Any:
    """A decoded RGB image."""
    pillow = _pillow()
    try:
        image = pillow.open(io.BytesIO(content))
    except pillow.UnidentifiedImageError:  # its own words name an object in memory
        raise DataError(f"its bytes are none of {', '.join(SUFFIXES)}") from None
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise DataError(f"An image has {image.width} x {image.height} pixels, more than {MOST_PIXELS:,}.")
        return image.convert("RGB")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("Reading images", "pillow", "images") from None
    return Image


def _as_png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    _pillow().fromarray(image).save(file, "PNG")
    return file.getvalue()


def _split_folders(path: Path) -> dict[str, Path]:
    """Our split -> its folder; a folder without such names is train itself."""
    named = {split_of(entry.name): entry for entry in sorted(path.iterdir()) if entry.is_dir()}
    folders = {split: named[split] for split in SPLIT_WORDS if split in named}
    return folders or {"train": path}


def _classes(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    for entry in sorted(folder.iterdir()):
        files = sorted(file for file in entry.iterdir() if _is_image(file)) if entry.is_dir() else []
        if files:
            yield entry.name, files


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES


def _rows(classes: Mapping[str, Sequence[Path]], labels: Sequence[str], problems: list[str]) -> pa.Table:
    contents, known = [], []
    for label, files in classes.items():
        for file in files:
            content = file.read_bytes()
            wrong = image_problem(content)
            if wrong is not None:
                problems.append(f"{file}: {wrong}")
            elif label in labels:
                contents.append(content)
                known.append(labels.index(label))
    return _arrow(contents, known)


def image_problem(content: bytes) -> str | None:
    """What is wrong with a file that should be an image; every pixel is decoded to know."""
    try:
        opened(content)
    except MissingExtraError:
        raise
    except (OSError, ValueError, SyntaxError, DataError, _pillow().DecompressionBombError) as error:
        return f"not a readable image: {error}"
    return None


def _arrow(contents: Sequence[bytes], labels: Sequence[int]) -> pa.Table:
    columns = {IMAGE: pa.array(contents, pa.large_binary()), LABEL: pa.array(labels, pa.int64())}
    return pa.table(columns)


def _table(name: str, labels: tuple[str, ...], rows: dict[str, pa.Table], options: DataOptions) -> TaskTable:
    if len(labels) < 2:
        raise DataError(f"'{name}' has {len(labels)} class of images; at least 2 are needed.")
    notes = [f"{name}: images of {len(labels)} classes: {', '.join(labels[:6])}"]
    if "validation" not in rows:
        classes = rows["train"][LABEL].to_numpy()
        rows["train"], rows["validation"] = hold_out(rows["train"], classes)
        notes.append(held_out_note(rows["validation"], by_class=True, what="images"))
    ordered = {split: rows[split] for split in SPLIT_WORDS if split in rows}
    task = Task(name, "class", (IMAGE,), LABEL, labels, ("accuracy", "macro_f1"), pool=options.pool)
    measured = {split: f"{images.num_rows:,}" for split, images in ordered.items()}
    return TaskTable(task, ordered, tuple(notes), measured_on=measured)
