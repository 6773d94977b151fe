"""Answers a whole file in order, and goes on after a kill.

The file is looked through once before: where it cannot be read throughout, nothing is answered. A row that cannot be
used, such as one with an empty text, keeps its place and gets an empty answer.
The folder OUT.partial holds the answered parts and `job.json` with the settings that they belong to.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import torch

from bitfit.backbone.device import Device, chosen_device
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.data.read.chunk import Chunk
from bitfit.data.read.formats import read_chunks
from bitfit.data.read.inputs import Inputs, Scan, scan
from bitfit.data.text_format import TextFormat
from bitfit.data.write.formats import WRITERS, AnswerWriter, check_ending
from bitfit.delta.delta import Delta
from bitfit.errors import RequestError
from bitfit.files import clear_parts, lock_file, write_whole, writing_whole
from bitfit.inference.predictor import ANSWER, Answer, Predictor, answer_table
from bitfit.runtime.precision import Precision, compute_format, surroundings, trusted
from bitfit.watcher import Watcher

JOB = "job.json"
ROWS = 1024  # of a chunk: little enough to lose, enough to fill a pass with texts of like length


class PartialFile:
    """The parts of one result, while this process makes them. Use it as a context: it holds the folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out.with_name(out.name + ".partial")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock = lock_file(self.folder / "lock")
        except BlockingIOError:
            raise RequestError(
                f"Another process is making '{out}': wait for it, or choose another `out=...`."
            ) from None
        clear_parts(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder.is_dir() and not any(path.name.isdigit() for path in self.folder.iterdir()):
            shutil.rmtree(self.folder, ignore_errors=True)  # it never came to a first part
        self.lock.close()

    def maybe_get_job(self) -> dict[str, Any] | None:
        """What the parts are of, if there are any."""
        try:
            job = json.loads((self.folder / JOB).read_text())
        except (OSError, ValueError):
            return None
        return job if isinstance(job, dict) else None

    def begin(self, job: Mapping[str, Any]) -> None:
        """Forget all parts; those made from now on are of this job."""
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()
        write_whole(self.folder / JOB, [json.dumps(job, indent=2).encode()])

    def path(self, number: int) -> Path:
        """Where a part is, counted from 0."""
        return self.folder / f"{number:08d}"

    def put(self, number: int, content: bytes) -> None:
        """Keep a part, whole or not at all."""
        write_whole(self.path(number), [content])

    def join(self, parts: int, join: Callable[[Sequence[Path], IO[bytes]], None]) -> None:
        """Make the whole of its parts, put it in its place, and forget the parts."""
        with writing_whole(self.out, self.folder) as file:
            join([self.path(number) for number in range(parts)], file)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class InputFile:
    """A file to answer: where it is, and what is called otherwise in it."""

    path: Path
    renamed: Mapping[str, str] | None = None  # the file's columns by the task's, where they differ
    answer: str = ANSWER  # name of the first column of answers; the others begin with it
    encoding: str | None = None  # None: UTF-8
    delimiter: str | None = None  # None: a comma in CSV, a tab in TSV

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a text is as good


@dataclass(frozen=True)
class Written:
    """What was written."""

    rows: int
    before: int  # of them, those that an earlier process had answered
    unanswered: int = 0  # of them, those that cannot be used and have an empty answer


def predict_file(
    backbone: Backbone | str | Path,
    delta: Delta,
    source: str | Path | InputFile,
    out: str | Path,
    *,
    precision: Precision = "auto",
    device: Device = "auto",
    watcher: Watcher | None = None,
) -> Written:
    """Write the file's columns and the answers to its rows, in their order, to a CSV, JSON lines or Parquet file.

    What is done is kept in the folder OUT.partial until the end: the same call goes on after a kill, and ends with the
    same file.
    """
    reading = source if isinstance(source, InputFile) else InputFile(Path(source))
    backbone, out, watcher = as_backbone(backbone), Path(out), Watcher.of(watcher)
    ending = check_ending(out)
    if out.exists() and reading.path.exists() and out.samefile(reading.path):
        raise RequestError(f"'{out}' is the input itself: choose another `out=...`.")
    if not out.parent.is_dir():
        raise RequestError(f"`out=...` is in a folder that does not exist: '{out.parent}'. Make it first.")
    delta.check(backbone)
    inputs = Inputs.of(delta.task, backbone.reads_images, reading.renamed)
    watcher.note(f"{reading.path}: every row is checked before the first is answered")
    scanned = _scanned(reading, inputs, watcher.note)
    writer = _writer(ending, scanned, delta, reading)
    with PartialFile(out) as parts:
        torch_device, precision = chosen_device(device), trusted(precision, backbone.config.model_type)
        job, resumed = _job(parts, _asked(delta, reading, ending), (precision, torch_device), watcher)
        compute, kind = job["surroundings"]["compute"], job["surroundings"]["device"]
        predictor = Predictor(backbone, delta, compute, watcher.note, kind)
        filling = _Filling(predictor, inputs, reading, writer)
        return replace(filling.fill(parts, scanned.rows, resumed, watcher), unanswered=scanned.unusable)


def answered(
    backbone: Backbone,
    delta: Delta,
    reading: InputFile,
    precision: Precision = "auto",
    device: Device = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Any]]:
    """The answers alone, a part of the file at a time, for whoever writes no file."""
    inputs = Inputs.of(delta.task, backbone.reads_images, reading.renamed)
    _scanned(reading, inputs, say)
    predictor = Predictor(backbone, delta, precision, say, device)
    for chunk in _chunks(reading):
        missing = [None] * len(chunk)
        texts = zip(*(chunk.columns.get(name, missing) for name in inputs.columns), strict=True)
        yield list(zip(texts, _answers(predictor, inputs, chunk), strict=True))


def _scanned(reading: InputFile, inputs: Inputs, say: Callable[[str], None]) -> Scan:
    """What is in the file; rows that get no answer are said."""
    scanned = scan(reading.path, inputs, ROWS, TextFormat.of(reading))
    if note := scanned.unanswered(reading.path):
        say(note)
    return scanned


def _chunks(reading: InputFile) -> Iterator[Chunk]:
    """The rows, a part of the work at a time."""
    return read_chunks(reading.path, ROWS, TextFormat.of(reading))


def _answers(predictor: Predictor, inputs: Inputs, chunk: Chunk) -> list[Answer]:
    """An answer for each row, an empty one for those that cannot be used."""
    table, problems = inputs.table(chunk)
    unusable = {index for index, _ in problems}
    usable = [index not in unusable for index in range(len(chunk))]
    answers = iter(predictor.answers(table.filter(pa.array(usable, pa.bool_())) if unusable else table))
    return [next(answers) if each else Answer(None) for each in usable]


@dataclass(frozen=True)
class _Filling:
    """What turns a part of the input into a part of the output."""

    predictor: Predictor
    inputs: Inputs
    reading: InputFile
    writer: AnswerWriter

    def fill(self, parts: PartialFile, rows: int, resumed: bool, watcher: Watcher) -> Written:
        """Answer what is not answered yet, then make the whole."""
        done, before, number = 0, 0, 0
        for number, chunk in enumerate(_chunks(self.reading), start=1):
            if resumed and parts.path(number - 1).exists():
                before += len(chunk)
            else:
                parts.put(number - 1, self._encoded(chunk))
            done += len(chunk)
            watcher.answered(done, rows, before)
        parts.join(number, self.writer.join)
        return Written(done, before)

    def _encoded(self, chunk: Chunk) -> bytes:
        """The rows with their answers."""
        return self.writer.encode(self._columns(chunk, _answers(self.predictor, self.inputs, chunk)))

    def _columns(self, chunk: Chunk, answers: list[Answer]) -> dict[str, Any]:
        """Every column of the output; a part of JSON lines may lack some."""
        table = answer_table(self.predictor.task, answers, self.reading.answer, self.predictor.threshold)
        columns = {name: table[name].to_pylist() for name in table.column_names}
        missing = [None] * len(chunk)
        columns = {**chunk.columns, **columns}
        return {name: columns.get(name, missing) for name in self.writer.types}


def _writer(ending: str, scanned: Scan, delta: Delta, reading: InputFile) -> AnswerWriter:
    """The output's format and columns."""
    answers = answer_table(delta.task, [], reading.answer, delta.threshold).schema
    twice = [name for name in answers.names if name in scanned.types]
    if twice:
        raise RequestError(
            f"{reading.path} has a column '{twice[0]}' already. Name the answers otherwise: `InputFile(answer=...)`."
        )
    types = {**scanned.types, **{field.name: field.type for field in answers}}
    return WRITERS[ending](types)


def _job(
    parts: PartialFile, asked: Mapping[str, Any], machine: tuple[Precision, torch.device], watcher: Watcher
) -> tuple[dict[str, Any], bool]:
    """What is to be done, and whether the parts that are there already are parts of it.

    `auto` measures the processor, but a job that goes on keeps to what it began with.
    """
    saved, (precision, device) = parts.maybe_get_job(), machine
    if saved is not None and saved.get("asked") == asked:
        before = saved.get("surroundings", {})
        compute = before.get("compute")
        now = surroundings(compute_format(compute if precision == "auto" else precision, device), device)
        if {**before, "threads": 0} == {**now, "threads": 0}:
            return saved, True
    if saved is not None:
        watcher.note(f"{parts.folder} holds the beginning of other work (another input, delta or version): begun anew")
    job = {"asked": dict(asked), "surroundings": surroundings(compute_format(precision, device), device)}
    parts.begin(job)
    return job, False


def _asked(delta: Delta, reading: InputFile, ending: str) -> dict[str, Any]:
    """All that decides the output, by content: the input's name does not count, its ending does."""
    with reading.path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "input": {"bytes": reading.path.stat().st_size, "sha256": content, "ending": reading.path.suffix.lower()},
        "delta": hashlib.sha256(delta.to_bytes()).hexdigest(),
        "renamed": dict(reading.renamed or {}),
        "answer": reading.answer,
        "written": [reading.encoding, reading.delimiter],
        "output": ending,
        "rows": ROWS,
    }
