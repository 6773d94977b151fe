"""`bitfit rank`: the bias terms by what they would bring to a task."""

from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.options import data_options, machine_options
from bitfit.cli.output import json_option, result, table
from bitfit.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.training.rank import Ranking


@click.command("rank")
@click.argument("task")
@click.option("--model", default="minilm", show_default=True, help="Embedded default, hub name or folder.")
@click.option(
    "--by",
    type=click.Choice(["gradient", "fisher", "change"]),
    default="gradient",
    show_default=True,
    help="The order: gradient at the start, Fisher information, or change after a short run.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the head and the sample.")
@click.option("--no-run", is_flag=True, help="Leave out the short run and its changes.")
@machine_options
@data_options
@json_option
def command(
    task: str, model: str, by: Any, seed: int, no_run: bool, precision: Any, device: Any, options: Any, as_json: bool
) -> None:
    """Order the bias terms of a model by what they would bring to TASK.

    `bitfit train --method 'bitfit[auto:0.04%]'` spends a budget by the gradients' order.
    """
    if by == "change" and no_run:
        raise RequestError("--by change orders by what a short run changes; --no-run leaves it out. Drop one of them.")
    from bitfit.backbone.load import load
    from bitfit.cli.progress import Shown
    from bitfit.training.config import TrainConfig
    from bitfit.training.rank import rank

    config = TrainConfig(seed=seed, precision=precision, device=device)
    with Shown() as shown:
        ranking = rank(load(model), task, config, by=by, short_run=not no_run, options=options, watcher=shown)
    document = {
        "task": ranking.task,
        "model": model,
        "by": ranking.by,
        "examples": ranking.examples,
        "terms": [scored.to_json() for scored in ranking.terms],
    }
    result(as_json, document, lambda console: _draw(console, ranking))


def _draw(console: "Console", ranking: "Ranking") -> None:
    rows = [
        (
            scored.term.symbol or scored.term.role,
            "-" if scored.term.layer is None else str(scored.term.layer),
            f"{scored.term.size:,}",
            f"{scored.gradient:.3g}",
            f"{scored.fisher:.3g}",
            "" if scored.change is None else f"{scored.change:.3g}",
        )
        for scored in ranking.terms
    ]
    title = f"{ranking.task}: terms by {ranking.by}, on {ranking.examples:,} examples (means over a term's elements)"
    console.print(table(title, ("term", "layer", "size", "gradient", "Fisher", "change"), rows))
