"""The development suite: trains its cells, and reports on them.

    python experiments/defaults/suite.py run DATA [--half choose] [--variant full] [--size 500] [--seed 0] [--task cola]
    python experiments/defaults/suite.py report > experiments/defaults/report.md

DATA holds data sets in the hub's layout. A run that is in runs.jsonl is not made again.
"""

import argparse
import json
import statistics
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tasks

import bitfit
from bitfit.data.read.source import load_task
from bitfit.data.table import TaskTable

FOLDER = Path(__file__).parent
PLAN = tomllib.loads((FOLDER / "suite.toml").read_text(encoding="utf-8"))
RUNS = FOLDER / "runs.jsonl"
MOST_VALIDATION = {True: 500, False: 1500}  # rows, of tasks that are made here and of known ones
HALVES = ("choose", "report")
RIVALS = ("frozen probe", "TF-IDF")


class Cell(NamedTuple):
    """What one command of a user would train."""

    task: str
    size: int  # 0: all
    variant: str
    seed: int


def made() -> list[dict[str, Any]]:
    """All runs so far."""
    return [json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()] if RUNS.exists() else []


def _cells(asked: argparse.Namespace) -> Iterator[Cell]:
    halves = [asked.half] if asked.half else HALVES
    named = [task for half in halves for task in PLAN[half]["tasks"]]
    runs = PLAN["runs"]
    for variant, seed, size, task in product(PLAN["variants"], runs["seeds"], runs["sizes"], named):
        cell = Cell(task, size, variant, seed)
        if all(getattr(asked, name) in (None, value) for name, value in cell._asdict().items()):
            yield cell


def _train(data: Path, cell: Cell) -> list[dict[str, Any]]:
    variant = dict(PLAN["variants"][cell.variant])
    method, rates = variant.pop("method", "bitfit"), variant.pop("learning_rate", [None])
    configs = [bitfit.TrainConfig(learning_rate=rate, seed=cell.seed, **variant) for rate in rates]
    table, began = _table(data, cell), time.monotonic()
    runs = bitfit.train_rows(PLAN["model"], table, method, configs)
    seconds = round(time.monotonic() - began)
    return [{**cell._asdict(), **_line(run), "seconds": seconds} for run in runs]


def _table(data: Path, cell: Cell) -> TaskTable:
    """A cell's train, and a validation split that every epoch of every run can read."""
    size = {"train_size": cell.size or None, "seed": cell.seed}
    options = bitfit.DataOptions(**tasks.options(data, cell.task), **size)
    table = load_task(tasks.splits(data, cell.task), options=options)
    validation = table.splits["validation"]
    most = min(validation.num_rows, MOST_VALIDATION[cell.task in tasks.MADE])
    drawn = np.random.RandomState(0).choice(validation.num_rows, most, replace=False)
    splits = {"train": table.splits["train"], "validation": validation.take(np.sort(drawn))}
    return replace(table, splits=splits, measured_on={})


def _line(run: bitfit.Run) -> dict[str, Any]:
    metric = run.delta.task.metric
    settings = {name: run.delta.settings[name] for name in ("race", "calibration") if name in run.delta.settings}
    return {
        "metric": metric,
        "score": run.scores["validation"][metric],
        "rate": run.config.learning_rate,
        "epochs": run.config.epochs,
        "best_epoch": run.best_epoch,
        "validation": [round(epoch["validation"][metric], 4) for epoch in run.history if epoch["validation"]],
        "baselines": {name: round(value, 4) for name, value in run.baselines.items()},
        **settings,
    }


def run(asked: argparse.Namespace) -> None:
    """Train what is not there yet, a line for each run as soon as its cell is done."""
    there = {Cell(*(line[name] for name in Cell._fields)) for line in made()}
    for cell in _cells(asked):
        if cell in there:
            continue
        lines = _train(Path(asked.data), cell)
        with RUNS.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        best = max(line["score"] for line in lines)
        sys.stderr.write(f"{cell} {100 * best:.1f} {lines[0]['baselines']} {lines[0]['seconds']} s\n")


# ---------------------------------------------------------------------- the report


def _figure(values: list[float]) -> str:
    """Mean of the seeds in points, and their standard deviation."""
    if not values:
        return ""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def _scores(lines: list[dict[str, Any]]) -> Mapping[tuple[str, int], Mapping[str, list[float]]]:
    """Of each task and size: the scores by what reached them. Of a grid of rates, each rate is one."""
    found: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        cell = found[line["task"], line["size"]]
        name = f"{line['rate']:g}" if line["variant"] == "rates" else line["variant"]
        cell[name].append(line["score"])
        if line["variant"] == "default":
            for rival in RIVALS:
                cell[rival] += [line["baselines"][rival]] if rival in line["baselines"] else []
    return found


def report() -> None:
    """Tables in Markdown: a row for each task and size."""
    found = _scores(made())
    rates = [f"{rate:g}" for rate in PLAN["variants"]["rates"]["learning_rate"]]
    columns = ["default", *RIVALS, "full", *rates]
    for half in HALVES:
        print(f"\n## Tasks to {half} on\n")
        print("| task | examples | " + " | ".join(columns) + " |")
        print("|---|---:|" + "---:|" * len(columns))
        sizes = product(PLAN[half]["tasks"], PLAN["runs"]["sizes"])
        for task, size in sizes:
            if (task, size) in found:
                cell = found[task, size]
                figures = " | ".join(_figure(cell.get(column, [])) for column in columns)
                print(f"| `{task}` | {size or 'all'} | {figures} |")
        _print_margins(half, found)


def _print_margins(half: str, found: Mapping[tuple[str, int], Mapping[str, list[float]]]) -> None:
    """How far the defaults are from others, over the cells of 500 examples and more that have both."""
    for rival in ("frozen probe", "TF-IDF", "full"):
        margins = {
            place: 100 * (statistics.mean(cell["default"]) - statistics.mean(cell[rival]))
            for place, cell in found.items()
            if place[0] in PLAN[half]["tasks"] and place[1] != 64 and "default" in cell and cell.get(rival)
        }
        if margins:
            worst = min(margins, key=lambda place: margins[place])
            mean, least = statistics.mean(margins.values()), f"{worst[0]}, {worst[1] or 'all'}"
            print(
                f"\nFrom 500 examples on the defaults are {mean:+.1f} points from {rival} on the average of "
                f"{len(margins)} cells; {margins[worst]:+.1f} at the least ({least})."
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("data")
    running.add_argument("--half", choices=HALVES)
    running.add_argument("--variant")
    running.add_argument("--task")
    running.add_argument("--size", type=int)
    running.add_argument("--seed", type=int)
    commands.add_parser("report")
    asked = parser.parse_args()
    if asked.command == "run":
        run(asked)
    else:
        report()


if __name__ == "__main__":
    main()
