"""`bitfit compare`: two deltas on the same rows, and whether chance explains the difference."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.options import backbone_of, data_options_but, machine_options
from bitfit.cli.output import json_option, note, result

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.inference.compare import PairedComparison
    from bitfit.inference.evaluation import Evaluation


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--split", help="train, validation, test ... Default: test if it is labelled, else validation.")
@click.option("--task", help="Other data of the same shape: a file or folder. Default: the task that FIRST names.")
@machine_options
@data_options_but("pool", "kind")
@json_option
def command(
    first: Path, second: Path, split: str | None, task: str | None, options: Any, as_json: bool, **given: Any
) -> None:
    """Score two deltas on the same rows, and say whether SECOND is better than FIRST.

    The interval is that of the difference over 1,000 draws of the rows, the same for both. For classes McNemar's exact
    test looks at the rows that one of the two alone answers right.

    --json: {first: {delta, score}, second: ..., split, measured_on, metric, difference, interval, told, only_first,
    only_second, p}
    """
    from bitfit.data.examples import measured_json
    from bitfit.delta.delta import Delta
    from bitfit.inference.compare import compare
    from bitfit.inference.evaluate import evaluation

    deltas = [Delta.load(file) for file in (first, second)]
    evaluated: list[Evaluation] = []
    for delta in deltas:
        where = split or (evaluated[0].split if evaluated and evaluated[0].split != "all" else None)
        backbone, data = backbone_of(delta, None), task or deltas[0].task.name
        evaluated.append(evaluation(backbone, delta, data, where, options=options, **given))
    for text in dict.fromkeys(text for one in evaluated for text in one.notes):
        note(text)
    found = compare(*evaluated)
    one = evaluated[0]
    document = {
        **found.to_json(),
        "first": {"delta": str(first), "score": found.first},
        "second": {"delta": str(second), "score": found.second},
        "split": one.split,
        "measured_on": measured_json({one.split: one.measured_on})[one.split],
    }
    result(as_json, document, lambda console: _show(console, (first, second), one, found))


def _show(console: "Console", files: tuple[Path, Path], one: "Evaluation", found: "PairedComparison") -> None:
    console.print(f"{one.split} ({one.measured_on}): {found.metric} {found.first:.4f} of {files[0]}")
    console.print(f"{one.split} ({one.measured_on}): {found.metric} {found.second:.4f} of {files[1]}")
    verdict = "more than chance" if found.told else "which chance explains"
    low, high = found.interval.to_json()
    console.print(f"difference {found.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}: {verdict}")
    if found.p is not None:
        apart = f"{found.only_first:,} rows are right in the first alone, {found.only_second:,} in the second alone"
        console.print(f"{apart}: p {found.p:.4f} (McNemar's exact test)")
