"""`bitfit submit`: answers GLUE's tests into the zip for its server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.options import backbone_of, machine_options, overwrite_option
from bitfit.cli.output import json_option, log, note, result
from bitfit.cli.output_file import check_new
from bitfit.errors import BackboneError, DataError, RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from bitfit.data.write.glue_zip import GlueFile
    from bitfit.delta.delta import Delta


@click.command("submit")
@click.argument("deltas", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("glue.zip"), show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with copies in the hub's layout.")
@click.option("--model", help="Default: the backbone that each file names.")
@machine_options
@overwrite_option
@json_option
def command(
    deltas: tuple[Path, ...],
    out: Path,
    data_dir: Path | None,
    model: str | None,
    precision: Any,
    device: Any,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Answer GLUE's tests with the delta in each FILE and write the zip that its server takes.

    One FILE for each task; MNLI's answers both of its tests and the diagnostic set.
    """
    from bitfit.data.write.glue_zip import write_submission
    from bitfit.delta.delta import Delta

    check_new(out, overwrite)
    loaded = [Delta.load(path) for path in deltas]
    _check(loaded)
    answers: dict[str, NDArray[Any]] = {}
    for delta in loaded:
        answers.update(_answers(delta, model, data_dir, {"precision": precision, "device": device}))
    if not answers:
        raise DataError("None of the tests is there, so there is nothing to submit.")
    missing = write_submission(out, answers)
    rows = {name: len(values) for name, values in answers.items()}
    result(as_json, {"out": str(out), "files": rows, "missing": missing}, lambda console: _show(console, out, rows))
    if missing:
        log().print(f"Still missing, and the server wants them all: {', '.join(missing)}.")


def _check(deltas: "list[Delta]") -> None:
    from bitfit.data.write.glue_zip import FILES, files_of
    from bitfit.errors import nearest

    tasks = [delta.task.name for delta in deltas]
    known = list(dict.fromkeys(file.known.task.name for file in FILES if file.known.task.name != "ax"))
    for task in tasks:
        if not files_of(task) or task not in known:
            raise RequestError(f"'{task}' is no task of GLUE. {nearest(task, known)}")
        if tasks.count(task) > 1:
            raise RequestError(f"Two files answer '{task}': give one for each task.")
    for delta in deltas:
        _check_shape(delta)


def _check_shape(delta: "Delta") -> None:
    """A file of one's own may bear the name of a task of GLUE."""
    from bitfit.data.catalog import KNOWN

    task, wanted = delta.task, KNOWN[delta.task.name].task
    if (task.kind, task.texts, sorted(task.labels)) != (wanted.kind, wanted.texts, sorted(wanted.labels)):
        raise RequestError(
            f"A delta was trained on other data than GLUE's '{task.name}': it reads {', '.join(task.texts)} and "
            f"answers {', '.join(task.labels) or 'a number'}; expected {', '.join(wanted.texts)} and "
            f"{', '.join(wanted.labels) or 'a number'}."
        )


def _answers(
    delta: "Delta", model: str | None, data_dir: Path | None, machine: dict[str, Any]
) -> "dict[str, NDArray[Any]]":
    """The answers to a delta's tests, by file; `machine` is the precision and the device."""
    from bitfit.data.write.glue_zip import files_of
    from bitfit.inference.predictor import Predictor

    backbone = backbone_of(delta, model)
    if backbone.tokenizer is None:
        raise BackboneError(f"'{backbone.name}' has no tokenizer, so it cannot read texts.")
    predictor = Predictor(backbone, delta, **machine)
    by_file = {}
    for file in files_of(delta.task.name):
        try:
            by_file[file.name] = _file_answers(file, delta, predictor, backbone.tokenizer, data_dir)
        except DataError as error:
            note(f"{file.name} is left out: {error}")
    return by_file


def _file_answers(
    file: "GlueFile", delta: "Delta", predictor: Any, tokenizer: Any, data_dir: Path | None
) -> "NDArray[Any]":
    import numpy as np

    from bitfit.data.encode.encoder import ExampleEncoder
    from bitfit.data.options import DataOptions
    from bitfit.data.read.source import rows_to_answer

    rows = rows_to_answer(file.known, file.split, DataOptions(data_dir=data_dir))
    outputs = np.asarray(predictor.outputs(ExampleEncoder(delta.task, tokenizer).examples(rows)))
    if delta.task.kind == "number":
        return outputs
    numbers = np.array([file.known.task.labels.index(label) for label in delta.task.labels])
    return np.asarray(numbers[outputs.argmax(axis=1)])


def _show(console: "Console", out: Path, rows: dict[str, int]) -> None:
    for name, count in rows.items():
        console.print(f"{name}: {count:,} answers")
    console.print(f"Written to {out}")
