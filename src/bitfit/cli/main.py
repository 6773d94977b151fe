"""The entry point: a table of commands, and errors turned into exit codes.

Nothing heavy is imported before a command runs, so that help answers at once.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from bitfit import __version__
from bitfit.backbone.memory import keep_freed_memory
from bitfit.cli.output import Unread
from bitfit.cli.wording import in_shell
from bitfit.errors import BitfitError, RequestError, TrainingError, nearest

# Command -> (the module whose attribute `command` it is, its line in the help).
COMMANDS = {
    "demo": ("bitfit.cli.demo", "One task from start to end on the embedded model, in minutes."),
    "terms": ("bitfit.cli.terms", "Every bias of a model by the paper's name, and what each method trains."),
    "train": ("bitfit.cli.train", "Train a task on a frozen backbone and keep it as one small file."),
    "rank": ("bitfit.cli.rank", "Order a model's bias terms by what they would bring to a task."),
    "eval": ("bitfit.cli.eval", "Score a delta file on a split of its task."),
    "report": (
        "bitfit.cli.report",
        "Write one HTML page about a delta file: scores, pictures, findings, how to use it.",
    ),
    "compare": ("bitfit.cli.compare", "Score two delta files on the same rows, and say whether one is better."),
    "predict": ("bitfit.cli.predict", "Answer texts, or a whole file of them, with a delta file."),
    "submit": ("bitfit.cli.submit", "Answer GLUE's tests with delta files, as the zip that its server takes."),
    "tokens": ("bitfit.cli.tokens", "What a model sees of a text, piece by piece."),
    "delta": ("bitfit.cli.delta", "Look into delta files: show, verify, diff, changes, average, sum, merge, adapters."),
    "experiment": ("bitfit.cli.experiment", "Run a plan of many runs, and report them beside the published figures."),
}

# What other tools call an option, where the letters do not lead to its name here.
ALIASES = {
    "--lr": "--learning-rate",
    "--learning-rates": "--learning-rate",
    "--bs": "--batch-size",
    "--batch": "--batch-size",
    "--num-epochs": "--epochs",
    "--num-train-epochs": "--epochs",
    "--max-len": "--max-length",
    "--max-seq-length": "--max-length",
    "--wd": "--weight-decay",
    "--output": "--out",
    "--output-dir": "--out",
    "-o": "--out",
    "--force": "--overwrite",
    "--seeds": "--seed",
    "--data": "--data-dir",
    "--dtype": "--precision",
    "--bf16": "--precision",
    "--model-name": "--model",
}
INTERRUPTED = 130  # what shells report for Ctrl-C: 128 + SIGINT
UNREAD = 141  # what shells report for a reader that went away: 128 + SIGPIPE

MORE_ROOM = "End other programs, or take less: a lower --max-length, fewer rows, a smaller model."

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a mistake of bitfit itself
  2    what was asked cannot be: a method, term, layer, setting or option
  3    a model that is missing, unreadable or not the expected one
  4    rows, columns or files that cannot be used
  5    a delta file that is damaged, foreign or made for another backbone
  6    a run that could not go on: a loss that is not finite, no memory, no disk
  7    an optional package that is not installed
  130  interrupted by Ctrl-C; what was best so far is saved
  141  nobody read the output to its end
"""


class LazyGroup(click.Group):
    """A group whose commands come from COMMANDS, each imported only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise RequestError(f"There is no command '{args[0]}'. {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bitfit")
def command() -> None:
    """Many small models out of one big one: train only the bias vectors of a frozen transformer."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process with its documented exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: nothing is wanted there
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the process ends
    keep_freed_memory()  # this process is the command's alone
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code. What went wrong is told on standard error."""
    try:
        code = command.main(args=arguments, prog_name="bitfit", standalone_mode=False)
    except BitfitError as error:
        return _complain(in_shell(str(error)), error.exit_code)
    except click.ClickException as error:
        (_suggesting(error) if isinstance(error, click.NoSuchOption) else error).show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", INTERRUPTED)
    except Unread:
        return UNREAD
    except MemoryError as error:  # where nothing smaller could be tried
        return _complain(
            f"Memory ran out: {str(error) or 'no more could be had'}. {MORE_ROOM}", TrainingError.exit_code
        )
    return code if isinstance(code, int) else 0


def _suggesting(error: click.NoSuchOption) -> click.UsageError:
    """The same error with the option that a word of other tools means, where the command has it."""
    meant = ALIASES.get(error.option_name)
    if error.ctx is None or not any(meant in parameter.opts for parameter in error.ctx.command.params):
        return error
    return click.UsageError(f"No such option '{error.option_name}'. Did you mean '{meant}'?", error.ctx)


def _complain(message: str, code: int) -> int:
    click.echo(f"bitfit: {message}", err=True)
    return code
