"""Where the commands write: results to standard output, everything else to standard error.

With --json exactly one JSON document goes to standard output, and nothing else does.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from bitfit.cli.wording import in_shell
from bitfit.errors import TrainingError

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.data.task import Task

P = ParamSpec("P")
T = TypeVar("T")
UNFOLDED = 10_000  # characters to a line where no terminal is: programs read the lines


class Unread(Exception):  # noqa: N818 - no mistake: whoever read the output has seen enough
    """The reader of standard output went away."""


def json_option(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --json to a command, as the parameter `as_json`."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="One JSON document on standard output, nothing else.",
    )(command)


def out() -> "Console":
    """Standard output, for tables and results that a person reads."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else UNFOLDED
    return Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False, soft_wrap=bool(width))


def log() -> "Console":
    """Standard error, for progress, notes and warnings."""
    from rich.console import Console

    return Console(file=sys.stderr, markup=False, emoji=False, highlight=False, soft_wrap=not sys.stderr.isatty())


def note(text: str) -> None:
    """A note or an error of the library, on standard error."""
    log().print(in_shell(text))


def write_json(document: Any) -> None:
    """The one JSON document. Keys keep their order; a number that JSON has no word for is a mistake here."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def result(as_json: bool, document: Any, show: Callable[["Console"], None]) -> None:
    """The end of a command: its result as JSON, or as `show` draws it for a person."""
    try:
        if as_json:
            write_json(document)
        else:
            show(out())
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # the console of rich turns the one into the other
        _forget_output()
        raise Unread from None
    except OSError as error:
        if error.filename is not None:  # of a file, not of standard output
            raise
        _forget_output()
        raise TrainingError(f"The result cannot be written to standard output: {error.strerror}.") from error


def _forget_output() -> None:
    """What is left in the buffer goes nowhere, or Python complains when it ends."""
    with suppress(OSError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def plain(value: Any) -> str:
    """A foreign word on a terminal or in a line: what could move the cursor or part the line is spelt out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(value))


def in_order(task: "Task", scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Scores as training shows them: train, validation, the others; the main metric first. A file sorts its keys."""
    splits = [split for split in ("train", "validation") if split in scores]
    main = task.metrics or (task.metric,)
    ordered = {}
    for split in dict.fromkeys((*splits, *scores)):
        metrics = [metric for metric in main if metric in scores[split]]
        ordered[split] = {metric: scores[split][metric] for metric in dict.fromkeys((*metrics, *scores[split]))}
    return ordered


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A plain table: the first column is text, figures follow on the right. Columns without names have no header."""
    from rich import box
    from rich.table import Table

    named = any(columns)
    lines = box.SIMPLE_HEAD if named else None
    made = Table(title=title or None, box=lines, title_justify="left", show_header=named)
    for number, name in enumerate(columns):
        made.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made
