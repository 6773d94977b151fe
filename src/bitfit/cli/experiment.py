"""`bitfit experiment`: run a plan of many runs, and report what came of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.main import INTERRUPTED
from bitfit.cli.options import device_option
from bitfit.cli.output import json_option, note, result, write_json
from bitfit.cli.output_file import ended_by_sigterm

if TYPE_CHECKING:
    from pathlib import Path

    from bitfit.experiment.runner import PlanOutcome


@click.group()
def command() -> None:
    """Run a plan of many runs, and report what came of it."""


@command.command()
@click.argument("plan_file", metavar="PLAN.toml", type=click.Path(path_type=Path))
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="The folder of the results.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with copies in the hub's layout.")
@click.option("--keep-deltas", is_flag=True, help="Keep every run's delta in the folder too.")
@device_option
@json_option
def run(plan_file: Path, folder: Path, data_dir: Path | None, keep_deltas: bool, device: Any, as_json: bool) -> int:
    """Do every run of a plan that the folder does not hold yet; one JSON file for each.

    The same command goes on after an interruption. Learning rates are chosen on validation; a test is read once.

    \b
    A plan looks like this:
      name = "stars"
      seeds = [0, 1, 2]
      tasks = ["reviews.csv", "mrpc"]       # names that `bitfit train` takes
      [settings]                            # of every run
      epochs = 3
      [[methods]]
      name = "bitfit"
      learning_rate = [1e-3, 2e-3, 4e-3]    # the best on validation is taken
      [[methods]]
      name = "full"
      learning_rate = [2e-5, 5e-5, 1e-4]
    """
    from bitfit.experiment.plan_file import read_plan

    plan = read_plan(plan_file)
    from bitfit.backbone.load import load
    from bitfit.experiment.runner import run_plan

    backbone, watcher = load(plan.model), _watcher()
    with ended_by_sigterm():
        outcome = run_plan(
            backbone, plan, folder, data_dir=data_dir, keep_deltas=keep_deltas, watcher=watcher, device=device
        )
    result(as_json, {"folder": str(folder), **outcome.to_json()}, lambda console: console.print(_told(outcome, folder)))
    return _exit_code(outcome)


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def report(folder: Path, as_json: bool) -> None:
    """The scores of a folder of runs beside the published ones, and the paper's claims; as Markdown."""
    from bitfit.experiment.report import markdown
    from bitfit.experiment.report import report as document

    if as_json:
        write_json(document(folder))
    else:
        click.echo(markdown(folder), nl=False)


def _watcher() -> Any:
    """Plain lines: a bar for each of hundreds of runs would say less."""
    from bitfit.cli.progress import Shown

    class Lines(Shown):
        def __init__(self) -> None:
            super().__init__()
            self.terminal = False

    return Lines()


def _told(outcome: "PlanOutcome", folder: Path) -> str:
    runs = (
        f"Of {outcome.planned} planned runs {outcome.before} were there, {outcome.done} are new, "
        f"{len(outcome.failed)} failed."
    )
    if outcome.stopped:
        return f"{runs} Stopped early: the same command goes on to the end."
    return f"{runs} Next: bitfit experiment report {folder}"


def _exit_code(outcome: "PlanOutcome") -> int:
    """A plan with failed runs is not done, whatever else it brought."""
    from bitfit.errors import TrainingError

    for name, why in outcome.failed.items():
        note(f"failed: {name}: {why}")
    if outcome.stopped:
        return INTERRUPTED
    return TrainingError.exit_code if outcome.failed else 0
