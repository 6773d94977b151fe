"""The options that several commands share: data, columns, device, output file."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from bitfit.backbone.load import Backbone
    from bitfit.delta.delta import Delta

P = ParamSpec("P")
T = TypeVar("T")


def _tab(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    r"""The mark; a tab may be written as \t, which shells leave as it is."""
    return "\t" if value == r"\t" else value


OPTIONS = {
    "text": click.option("--text", metavar="COLUMN", help="Column of the text (for answers in a text: the question)."),
    "text_pair": click.option("--text-pair", metavar="COLUMN", help="Column of the second text (of the context)."),
    "label": click.option(
        "--label",
        metavar="COLUMN",
        multiple=True,
        callback=lambda _, __, given: given or None,
        help="Column of the label. Several: columns of 0 and 1, one for each label that a text may have.",
    ),
    "label_separator": click.option(
        "--label-separator",
        metavar="MARK",
        help="Between the labels of one cell, such as ';': a text may have several.",
    ),
    "tokens": click.option("--tokens", metavar="COLUMN", help="Column of the words of a sentence."),
    "tags": click.option("--tags", metavar="COLUMN", help="Column of the words' tags."),
    "data_dir": click.option("--data-dir", type=click.Path(path_type=Path), help="Copies in the hub's layout."),
    "max_length": click.option("--max-length", type=int, help="Pieces of a text; the rest is cut off and counted."),
    "pool": click.option("--pool", type=click.Choice(["first", "mean"]), help="What the head reads of a text."),
    "kind": click.option(
        "--kind",
        type=click.Choice(["class", "labels", "number", "tags", "span"]),
        help="Kind of task. Default: by its columns.",
    ),
    "train_size": click.option("--train-size", type=int, metavar="N", help="Train on N rows drawn at random."),
    "encoding": click.option("--encoding", metavar="NAME", help="Of files of text, such as latin-1. Default: utf-8."),
    "delimiter": click.option(
        "--delimiter",
        metavar="MARK",
        callback=_tab,
        help="Between columns, such as ';'. Default: a comma in *.csv, a tab in *.tsv.",
    ),
    "skip_bad_rows": click.option(
        "--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be used, and say which they are."
    ),
}
TEXT_FORMAT = ("encoding", "delimiter")


def data_options_but(*left_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options above, but for some; the command gets one value, `options`."""
    added = {name: option for name, option in OPTIONS.items() if name not in left_out}

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_options(**given: Any) -> Any:
            from bitfit.data.options import DataOptions

            values = {name: given.pop(name) for name in added}
            return command(options=DataOptions(**values), **given)

        for option in reversed(added.values()):
            with_options = option(with_options)
        return with_options

    return add


data_options = data_options_but()


def text_format_options(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --encoding and --delimiter alone."""
    for name in reversed(TEXT_FORMAT):
        command = OPTIONS[name](command)
    return command


def device_option(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --device."""
    kinds = click.Choice(["auto", "cpu", "cuda"])
    help_text = "auto takes a GPU that torch can use."
    return click.option("--device", type=kinds, default="auto", show_default=True, help=help_text)(command)


def machine_options(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --precision and --device."""
    kinds = click.Choice(["auto", "fp32", "bf16"])
    help_text = "Of the frozen weights. auto takes what the processor multiplies fastest."
    option = click.option("--precision", type=kinds, default="auto", show_default=True, help=help_text)
    return option(device_option(command))


def scored_options(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --split, --model and --task, for commands that score a delta's file."""
    for option in (
        click.option(
            "--task", help="Other data of the same shape: a file or folder. Default: the task that the file names."
        ),
        click.option("--model", help="Default: the backbone that the file names."),
        click.option("--split", help="train, validation, test ... Default: test if it is labelled, else validation."),
    ):
        command = option(command)
    return command


def overwrite_option(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --overwrite, for commands that write a file of which there is one."""
    return click.option("--overwrite", is_flag=True, help="Replace a file that exists already.")(command)


def backbone_of(delta: "Delta", model: str | None) -> "Backbone":
    """The model asked for, else the one that the delta names; the delta's own at the revision it was trained on.

    A folder of that name has no revisions: whether it is the delta's own model is seen when the delta is applied.
    """
    from bitfit.backbone.load import load

    name = model or delta.backbone
    pinned = name == delta.backbone and not Path(name).expanduser().is_dir()
    return load(name, revision=delta.revision if pinned else None)
