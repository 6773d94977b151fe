"""Writes and checks the zip that GLUE's server takes.

One file for each test set, `index<TAB>prediction` at its top, rows in the release's order counted from 0.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.data.catalog import DIAGNOSTIC, KNOWN, Known
from bitfit.data.read.chunk import shown
from bitfit.errors import DataError
from bitfit.files import write_whole

HEADER = "index\tprediction"
HIGHEST = 5.0  # of an STS-B score; the lowest is 0


@dataclass(frozen=True)
class GlueFile:
    """One file of the zip: its name, and the rows that it answers."""

    name: str
    known: Known  # whose test set it is
    split: str
    words: bool  # label words, not numbers

    @property
    def rows(self) -> int:
        """Rows of the official test set."""
        return self.known.official[self.split]

    def prediction(self, value: float) -> str:
        """One answer as the server wants it: a label's word or number, or a score."""
        if self.known.task.kind == "number":
            return f"{min(max(float(value), 0.0), HIGHEST):.3f}"
        return self.known.task.labels[int(value)] if self.words else str(int(value))

    def allows(self, prediction: str) -> bool:
        """Whether the server could read this answer."""
        if self.known.task.kind != "number":
            return prediction in {self.prediction(index) for index in range(len(self.known.task.labels))}
        try:
            return 0.0 <= float(prediction) <= HIGHEST
        except ValueError:
            return False


FILES = (
    GlueFile("CoLA.tsv", KNOWN["cola"], "test", False),
    GlueFile("SST-2.tsv", KNOWN["sst2"], "test", False),
    GlueFile("MRPC.tsv", KNOWN["mrpc"], "test", False),
    GlueFile("STS-B.tsv", KNOWN["stsb"], "test", False),
    GlueFile("QQP.tsv", KNOWN["qqp"], "test", False),
    GlueFile("MNLI-m.tsv", KNOWN["mnli"], "test", True),
    GlueFile("MNLI-mm.tsv", KNOWN["mnli"], "test_mismatched", True),
    GlueFile("QNLI.tsv", KNOWN["qnli"], "test", True),
    GlueFile("RTE.tsv", KNOWN["rte"], "test", True),
    GlueFile("WNLI.tsv", KNOWN["wnli"], "test", False),
    GlueFile("AX.tsv", DIAGNOSTIC, "test", True),
)
BY_NAME = {file.name: file for file in FILES}


def files_of(task: str) -> tuple[GlueFile, ...]:
    """The files that a model of this task answers; MNLI's answers the diagnostic set too."""
    also = {DIAGNOSTIC.task.name} if task == "mnli" else set()
    return tuple(file for file in FILES if file.known.task.name in {task} | also)


def write_submission(path: Path, answers: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Write the zip from label numbers or scores by file name; gives the names of the files still missing.

    Nothing is written where an answer is wrong or missing.
    """
    texts = {name: _text(BY_NAME[name], values) for name, values in answers.items()}
    problems = [problem for name, text in texts.items() for problem in _problems(BY_NAME[name], text)]
    if problems:
        raise DataError("These answers cannot be submitted.", problems)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    try:
        write_whole(path, [whole.getbuffer()])
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error.strerror or error}.") from error
    return tuple(file.name for file in FILES if file.name not in texts)


def check_submission(path: Path) -> None:
    """Refuse a zip that the server would not take whole, with everything that is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = {name: archive.read(name).decode() for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable zip of texts: {error}") from error
    problems = [f"{name}: missing" for name in BY_NAME if name not in texts]
    problems += [f"{name}: not a file that the server knows" for name in texts if name not in BY_NAME]
    problems += [one for name, text in texts.items() if name in BY_NAME for one in _problems(BY_NAME[name], text)]
    if problems:
        raise DataError(f"{path} is not a whole GLUE submission.", problems)


def _text(file: GlueFile, values: NDArray[Any]) -> str:
    if not np.isfinite(values).all():
        raise DataError(f"{file.name}: an answer is not finite.")
    rows = (f"{index}\t{file.prediction(value)}" for index, value in enumerate(values.tolist()))
    return "\n".join([HEADER, *rows]) + "\n"


def _problems(file: GlueFile, text: str) -> list[str]:
    header, *rows = text.removesuffix("\n").split("\n")
    if header != HEADER:
        return [f"{file.name}: the first line must be {HEADER!r}, found {shown(header)}"]
    problems = []
    if len(rows) != file.rows:
        problems.append(f"{file.name}: {file.rows:,} answers expected, {len(rows):,} found")
    return problems + _wrong_rows(file, rows)


def _wrong_rows(file: GlueFile, rows: Sequence[str]) -> list[str]:
    for index, row in enumerate(rows):
        number, _, prediction = row.partition("\t")
        if number != str(index) or not file.allows(prediction):
            return [f"{file.name}, line {index + 2}: {shown(row)} is not '{index}', a tab and an answer"]
    return []
