"""`bitfit predict`: answers to texts on the command line, or to the rows of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.options import TEXT_FORMAT, backbone_of, machine_options, overwrite_option, text_format_options
from bitfit.cli.output import json_option, log, note, plain, result, table
from bitfit.cli.output_file import check_new
from bitfit.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.backbone.load import Backbone
    from bitfit.data.task import Task
    from bitfit.delta.delta import Delta
    from bitfit.inference.predict_file import InputFile, Written
    from bitfit.inference.predictor import Answer

SHOWN_CHARACTERS = 100  # of a text, on a terminal
SHOWN_SPANS = 3  # of the best answers to a question, on a terminal; --json has them all


@click.command("predict")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar="TEXT...")
@click.option("--input", "source", type=click.Path(path_type=Path), help="A file of rows: CSV, TSV, JSONL, Parquet ...")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the rows go with their answers: CSV, JSONL, Parquet."
)
@click.option("--text", metavar="COLUMN", help="The file's column of texts (of questions), if not the task's.")
@click.option("--text-pair", metavar="COLUMN", help="The file's column of second texts (of contexts).")
@click.option("--tokens", metavar="COLUMN", help="The file's column of words: lists, or texts parted at spaces.")
@text_format_options
@click.option("--answer", metavar="COLUMN", help="Name of the answers' column in OUT. Default: answer.")
@click.option("--model", help="Default: the backbone that the file names.")
@machine_options
@overwrite_option
@json_option
def command(file: Path, texts: tuple[str, ...], model: str | None, as_json: bool, **given: Any) -> None:
    """Answer each TEXT, or each row of a file, with the delta in FILE.

    A task over pairs takes its texts two by two: a question, then its context. For tags a TEXT is a sentence of words
    with spaces between them; for images it is the path of one. Where the output is no terminal, each answer is one
    line: its texts, the answer and its share, with tabs between them.

    With --input and --out the rows are written in their order, all columns kept, followed by the answer and, for
    labels and parts of a text, its share (COLUMN_score) and where it begins (COLUMN_start). Where a text may have any
    number of labels, answer and shares are lists, in CSV as JSON. A delta with a threshold
    (bitfit eval --precision-at) says where it is unsure (COLUMN_unsure). Memory does not grow with the file. What is
    done stays in OUT.partial: the same command goes on after a kill, and ends with the same file.

    A row of a file that cannot be used, such as one with an empty text, keeps its place and gets an empty answer; how
    many these are is said.
    """
    from bitfit.delta.delta import Delta

    _check(texts, given)
    if given["out"] is not None:
        check_new(given["out"], given["overwrite"])
    delta = Delta.load(file)
    backbone = backbone_of(delta, model)
    if texts:
        rows, answers = _texts(backbone, delta, texts, given)
    else:
        from bitfit.inference.predict_file import answered

        source = _input_file(delta.task, given)
        if given["out"] is not None:
            _file(backbone, delta, source, given, as_json)
            return
        chunks = answered(backbone, delta, source, given["precision"], given["device"], note)
        pairs = [pair for chunk in chunks for pair in chunk]
        rows, answers = [row for row, _ in pairs], [answer for _, answer in pairs]
    document = [_document(delta, row, answer) for row, answer in zip(rows, answers, strict=True)]
    result(as_json, document, lambda console: _show(console, document))


def _check(texts: tuple[str, ...], given: dict[str, Any]) -> None:
    """Texts or a file, and what belongs to it."""
    if bool(texts) == (given["source"] is not None):
        raise RequestError(
            "Give either TEXTs or --input, not both."
            if texts
            else "Nothing to answer: give at least one TEXT, in quotes, or --input FILE."
        )
    for_output = ("answer", "overwrite")
    for_input = ("out", "text", "text_pair", "tokens", *for_output, *TEXT_FORMAT)
    idle = for_input if texts else for_output if given["out"] is None else ()
    names = [f"--{name.replace('_', '-')}" for name in idle if given[name]]
    if names:
        verb, owner = "belongs" if len(names) == 1 else "belong", "--input" if texts else "--out"
        raise RequestError(f"{', '.join(names)} {verb} to {owner}; found {'TEXTs' if texts else 'no --out'}.")


def _texts(
    backbone: "Backbone", delta: "Delta", texts: tuple[str, ...], given: dict[str, Any]
) -> tuple[list[tuple[str, ...]], "list[Answer]"]:
    """The texts of each answer, and the answers."""
    from bitfit.inference.predictor import predict

    wanted = len(delta.task.texts)
    if len(texts) % wanted:
        raise RequestError(f"This task takes {wanted} texts at a time {delta.task.texts}; found {len(texts)}.")
    rows = [texts[i : i + wanted] for i in range(0, len(texts), wanted)]
    asked: list[Any] = [row[0] for row in rows] if wanted == 1 else list(rows)
    return rows, predict(backbone, delta, asked, given["precision"], given["device"])


def _input_file(task: "Task", given: dict[str, Any]) -> "InputFile":
    """The file, and its names of the task's columns."""
    from bitfit.inference.predict_file import InputFile
    from bitfit.inference.predictor import ANSWER

    first, second = given["tokens"] or given["text"], given["text_pair"]
    if second and len(task.texts) < 2:
        raise RequestError(f"The task '{task.name}' has one text, '{task.texts[0]}': there is no --text-pair.")
    if given["tokens"] and task.kind != "tags":
        raise RequestError(f"The task '{task.name}' reads texts, not words: use --text.")
    names = zip(task.texts, (first, second), strict=False)
    renamed = {column: other for column, other in names if other}
    written = [given[name] for name in TEXT_FORMAT]
    return InputFile(given["source"], renamed, given["answer"] or ANSWER, *written)


def _file(backbone: "Backbone", delta: "Delta", source: "InputFile", given: dict[str, Any], as_json: bool) -> None:
    """A whole file, with a bar."""
    from bitfit.cli.progress import Answering
    from bitfit.inference.predict_file import predict_file

    out: Path = given["out"]
    try:
        with Answering() as shown:
            written = predict_file(
                backbone, delta, source, out, precision=given["precision"], device=given["device"], watcher=shown
            )
    except KeyboardInterrupt:
        log().print("Stopped: what is answered so far is kept. The same command goes on.")
        raise
    document = {
        "out": str(out),
        "rows": written.rows,
        "answered_before": written.before,
        "unanswered": written.unanswered,
    }
    result(as_json, document, lambda console: _show_file(console, out, written))


def _document(delta: "Delta", row: tuple[Any, ...], answer: "Answer") -> dict[str, Any]:
    """One answer as plain values; null for a row that cannot be used."""
    from dataclasses import asdict

    document: dict[str, Any] = {"texts": list(row), "answer": answer.value}
    if delta.task.kind in ("class", "labels"):
        document["scores"] = answer.scores
        if delta.threshold is not None:
            document["unsure"] = None if answer.value is None else answer.unsure
    if answer.best:
        document["best"] = [asdict(span) for span in answer.best]
    return document


def _show(console: "Console", document: list[dict[str, Any]]) -> None:
    """On a terminal a table; elsewhere a line for each answer, its columns parted by tabs: texts, answer, share."""
    if not console.is_terminal:
        for line in document:
            console.file.write("\t".join(map(plain, _fields(line))) + "\n")  # rich would expand the tabs
        return
    rows = [(_shortened(" | ".join(map(plain, map(_text, line["texts"])))), _shown_answer(line)) for line in document]
    console.print(table("", ("text", "answer"), rows))


def _fields(line: dict[str, Any]) -> list[str]:
    """Texts, the answer, its share for a label or a part of a text, and a word where that is below the threshold."""
    if isinstance(line["answer"], list) and line.get("scores"):
        return [*map(_text, line["texts"]), ", ".join(line["answer"]), ", ".join(_shares(line, ".4f"))]
    share: float | None = None
    if line.get("scores"):
        share = line["scores"][line["answer"]]
    elif "best" in line:
        share = line["best"][0]["probability"]
    answer = line["answer"]
    word = f"{answer:.6g}" if isinstance(answer, float) else _word(answer)
    shares = ["" if share is None else f"{share:.4f}"] if "scores" in line or share is not None else []
    unsure = ["unsure"] if line.get("unsure") else []
    return [*map(_text, line["texts"]), word, *shares, *unsure]


def _shares(line: dict[str, Any], form: str) -> list[str]:
    """Of labels: that of each in the answer."""
    return [f"{line['scores'][label]:{form}}" for label in line["answer"]]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _word(value: Any) -> str:
    """An answer in one piece, "" where there is none."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join("(cut off)" if tag is None else tag for tag in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _shown_answer(line: dict[str, Any]) -> str:
    """The answer, with its share where it is a label or a part of a text."""
    value = line["answer"]
    if isinstance(value, list) and line.get("scores"):
        parts = zip(value, _shares(line, ".0%"), strict=True)
        return ", ".join(f"{label} ({share})" for label, share in parts) or "(none)"
    if line.get("scores"):
        unsure = "unsure: " if line.get("unsure") else ""
        return f"{unsure}{value} ({line['scores'][value]:.0%})"
    if "best" in line:
        return "\n".join(f"{span['text']} ({span['probability']:.0%})" for span in line["best"][:SHOWN_SPANS])
    return _word(value)


def _show_file(console: "Console", out: Path, written: "Written") -> None:
    before = f", {written.before:,} of them before" if written.before else ""
    unanswered = f"; {written.unanswered:,} cannot be used and have an empty answer" if written.unanswered else ""
    console.print(f"{out}: {written.rows:,} rows answered{before}{unanswered}")
