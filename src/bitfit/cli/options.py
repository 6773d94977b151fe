"""The options that several commands share: where data are and what their columns mean, the device, the output file."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

P = ParamSpec("P")
T = TypeVar("T")

NAMES = (
    "text",
    "text_pair",
    "label",
    "tokens",
    "tags",
    "data_dir",
    "max_length",
    "pool",
    "kind",
    "train_size",
)

KINDS = click.Choice(["class", "number", "tags", "span"])
OPTIONS = (
    click.option("--text", metavar="COLUMN", help="Column of the text (of the question, for answers in a text)."),
    click.option("--text-pair", metavar="COLUMN", help="Column of the second text (of the context)."),
    click.option("--label", metavar="COLUMN", help="Column of the label."),
    click.option("--tokens", metavar="COLUMN", help="Column of the words of a sentence."),
    click.option("--tags", metavar="COLUMN", help="Column of the words' tags."),
    click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with copies in the hub's layout."),
    click.option("--max-length", type=int, help="Pieces a text may have; the rest is cut off and counted."),
    click.option("--pool", type=click.Choice(["first", "mean"]), help="What the head reads of a text."),
    click.option(
        "--kind", type=click.Choice(["class", "number", "tags", "span"]), help="Kind of task. Default: by its columns."
    ),
    click.option("--train-size", type=int, metavar="N", help="Train on N rows drawn at random."),
)


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options above; the command gets one value, `options`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> Any:
        from bitfit.data.options import DataOptions

        values = {name: given.pop(name) for name in NAMES}
        return command(options=DataOptions(**values), **given)

    for option in reversed(OPTIONS):
        with_options = option(with_options)
    return with_options


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


def overwrite_option(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --overwrite, for commands that write a file of which there is one."""
    return click.option("--overwrite", is_flag=True, help="Replace a file that exists already.")(command)
