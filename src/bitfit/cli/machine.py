"""The options that say which device runs the model, and in which number format; knows no command."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

P = ParamSpec("P")
T = TypeVar("T")


def device_option(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --device."""
    option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
    return option(command)


def machine_options(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --precision and --device."""
    option = click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
    return option(device_option(command))
