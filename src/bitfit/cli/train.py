"""`bitfit train`: one task, one method, one file; several learning rates or seeds make a grid."""

import re
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bitfit.cli.evaluated import show_figures
from bitfit.cli.main import INTERRUPTED
from bitfit.cli.options import data_options, machine_options
from bitfit.cli.output import json_option, note, result, table
from bitfit.cli.output_file import OutputFile, check_writable, ended_by_sigterm
from bitfit.cli.wording import in_shell
from bitfit.errors import RequestError
from bitfit.files import file_name
from bitfit.training.config import HEAD_STARTS, TrainConfig

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.data.examples import TaskData
    from bitfit.inference.calibration import Threshold
    from bitfit.training.run import Run


MOST_CLASSES = 10  # of the table at the end; `bitfit eval` shows more, --json all of them
HEADS = click.Choice(["full", "bias", "frozen"])


@click.command("train")
@click.argument("task")
@click.option("--model", default="minilm", show_default=True, help="Embedded default, hub name or folder.")
@click.option("--method", default="bitfit", show_default=True, help="What trains: bitfit, bitfit[b_m2,b_q], full ...")
@click.option("--head", type=HEADS, default="full", show_default=True, help="How much of the task's head trains.")
@click.option(
    "--recipe",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="The settings to start from: those shown here, or the paper's: 8 epochs at a constant rate, without decay.",
)
@click.option(
    "--learning-rate",
    "learning_rates",
    metavar="auto|RATE[,RATE...]",
    help="Default: auto, the winner of a short race of rates, or what suits the method.",
)
@click.option(
    "--seed", "seeds", default="0", show_default=True, metavar="SEED[,SEED...]", help="Of head, order, dropout."
)
@click.option(
    "--head-start",
    type=click.Choice(HEAD_STARTS),
    default=TrainConfig.head_start,
    show_default=True,
    help="At random; the same with the frequencies of classes or labels as biases (auto, where there are such); or "
    "where a linear model on the frozen features has it.",
)
@click.option("--batch-size", type=int, default=TrainConfig.batch_size, show_default=True)
@click.option("--epochs", type=int, help="Default: what suits the number of examples, 3 to 20.")
@click.option("--schedule", type=click.Choice(["linear", "constant"]), default=TrainConfig.schedule, show_default=True)
@click.option("--warmup", type=float, default=TrainConfig.warmup, show_default=True, help="Share of all steps.")
@click.option("--clip", type=float, default=TrainConfig.clip, show_default=True, help="Largest gradient norm; 0: none.")
@click.option(
    "--weight-decay", type=float, default=TrainConfig.weight_decay, show_default=True, help="Never on biases and norms."
)
@click.option(
    "--tune",
    metavar="TIME",
    help="Try other learning rates, epochs and poolings, one after another, within this time: 90s, 10m, 2h.",
)
@click.option(
    "--patience",
    type=int,
    help="Stop after so many epochs without a better score. Default: 5, where --epochs is not given and there are 10.",
)
@click.option(
    "--balance",
    type=click.Choice(["auto", "none", "weights"]),
    default=TrainConfig.balance,
    show_default=True,
    help="Give each class the same weight in the loss: weights; auto: where that helps.",
)
@click.option(
    "--few-shot",
    type=click.Choice(["auto", "on", "off"]),
    default=TrainConfig.few_shot,
    show_default=True,
    help="Draw texts of a class together first, then fit the head; auto: where that helps.",
)
@machine_options
@click.option(
    "--prefix-cache/--no-prefix-cache",
    default=None,
    help="Run the layers below all that trains once for each example, without dropout, and keep what they answer. "
    "Default: only where the head alone trains.",
)
@click.option(
    "--no-baselines", is_flag=True, help="Leave out what a linear probe on the frozen model and TF-IDF reach."
)
@click.option(
    "--precision-at",
    type=float,
    metavar="SHARE",
    help="Find the confidence on validation above which so many answers are right; below it `predict` is unsure.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The file to write. Default: TASK-METHOD.safetensors.")
@click.option("--resume", is_flag=True, help="Go on where a killed run stopped. So does the same command without it.")
@click.option("--overwrite", is_flag=True, help="Start afresh, whatever a run has left at --out.")
@click.option("--estimate", is_flag=True, help="Say how much memory the run would need, and stop.")
@click.option(
    "--checkpoint-every",
    type=float,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="In the folder OUT.checkpoint while the run lasts; at most 1 % of the time goes there. 0: none.",
)
@data_options
@json_option
def command(task: str, model: str, method: str, head: Any, out: Path | None, as_json: bool, **given: Any) -> int:
    """Train TASK (a known name, a file or a folder) and keep what changed in one small file.

    Several learning rates or seeds make a grid, trained together; the best run is kept. A run that was killed, at any
    moment, goes on when the same command is given again, and ends with the same file. Ctrl-C and SIGTERM end a run
    early with what was best so far. The same command on a finished file trains nothing and shows its scores.

    --json: {delta, task, method, scores, measured_on, baselines, findings, history, settings, ...; validation: scores,
    interval, report and calibration of the best run, as `bitfit eval --json` has them, null for tags and spans;
    threshold; grid: the runs, where there are several}. A finished file has these figures in fewer digits, of numbers
    the interval alone, and no threshold but that in its settings.
    """
    configs = _configs(given, click.get_current_context())
    from bitfit.backbone.load import load
    from bitfit.cli.progress import Shown
    from bitfit.inference.task_data import task_data
    from bitfit.methods.method import Method
    from bitfit.training.checkpoint import Checkpoints
    from bitfit.training.memory_estimate import maybe_get_warning
    from bitfit.training.recipe import Recipe
    from bitfit.training.run import best_run
    from bitfit.training.train import check_fit, train_rows
    from bitfit.training.tune import tune, tuning_asked

    how = Method.parse(method, head)
    path = out or Path(f"{Path(task).stem}-{file_name(how.name)}.safetensors")
    check_writable(path)
    backbone = load(model)
    check_fit(backbone, how)
    data = task_data(backbone, task, given["options"])
    if given["estimate"]:
        for text in data.notes:
            note(text)
        return _estimate(backbone, data, how, configs, as_json)
    precision_at = given["precision_at"]
    _check_precision(precision_at, data)
    checkpoints = Checkpoints.beside(path, 0.0 if given["tune"] else given["checkpoint_every"])
    recipe, minutes = Recipe.of(backbone, data, how, configs), _minutes(given["tune"], configs)
    output = OutputFile(path, checkpoints, tuning_asked(recipe, minutes) if minutes else recipe.asked())
    finished = output.maybe_get_finished(backbone, overwrite=given["overwrite"], resume=given["resume"])
    if finished is not None:
        _check_same_precision(precision_at, finished, path)
        document = {"delta": str(path), "finished_before": True, **finished.to_json(), **_of_validation(finished, None)}
        result(as_json, document, lambda console: _show(console, [finished], 0, path, None))
        return 0
    if minutes:
        output.refuse_checkpoints()
    with output.alone():
        with Shown(data.measured_on.get("validation", "")) as shown, ended_by_sigterm():
            warning = maybe_get_warning(backbone, data, how, configs)
            if warning is not None:
                shown.note(warning)
            watched: Any = {"watcher": shown, "baselines": not given["no_baselines"]}
            if minutes:
                runs = [tune(backbone, task, how, minutes, configs[0], options=given["options"], **watched)]
            else:
                runs = train_rows(backbone, data, how, configs, checkpoints=checkpoints, **watched)
        best = best_run(runs)
        stopped = len(runs) < len(configs) or any(run.stopped for run in runs)
        threshold = None if precision_at is None else _maybe_get_threshold(runs[best], precision_at)
        if threshold is not None:
            runs[best] = runs[best].unsure_below(threshold)
        output.write(runs[best], stopped)
    document = {"delta": str(path), **runs[best].to_json(), **_of_validation(runs[best], threshold)}
    if len(runs) > 1:
        document["grid"] = [run.to_json() for run in runs]
    result(as_json, document, lambda console: _show(console, runs, best, path, threshold))
    return INTERRUPTED if stopped else 0


def _estimate(backbone: Any, data: Any, how: Any, configs: list[TrainConfig], as_json: bool) -> int:
    """Memory before starting."""
    from bitfit.training.memory_estimate import estimate

    needs = estimate(backbone, data, how, configs)

    def show(console: "Console") -> None:
        parts = {
            "libraries, backbone and data, loaded now": needs.loaded,
            "trained values and their averages": needs.trained,
            f"a training pass of at most {needs.tokens_a_pass:,} tokens": needs.training_pass,
            "a scoring pass (at another time)": needs.scoring_pass,
            "at most, with what is kept free": needs.total,
        }
        rows = [(name, f"{size / 1e6:,.0f} MB") for name, size in parts.items()]
        console.print(table("Memory, about", ("", ""), rows))
        if needs.kept:
            console.print(f"Beside it, {needs.kept / 1e6:,.0f} MB of disk keep what the layers below answer")
        if needs.available is not None:
            left = f"The machine can still give {needs.available / 1e6:,.0f} MB"
            console.print(f"{left}: it fits." if needs.fits else f"{left}: too little. Lower --max-length first.")

    result(as_json, needs.to_json(), show)
    return 0


def _configs(given: dict[str, Any], context: click.Context) -> list[TrainConfig]:
    """A configuration for each pair of learning rate and seed: the recipe's, but for what the command line says."""
    chosen = None if given["learning_rates"] == "auto" else given["learning_rates"]
    rates = _numbers("--learning-rate", chosen, float) or [None]
    seeds = _numbers("--seed", given["seeds"], int)
    recipe = TrainConfig.paper() if given["recipe"] == "paper" else TrainConfig()
    given_settings = {
        field.name: given[field.name]
        for field in fields(TrainConfig)
        if field.name in given and context.get_parameter_source(field.name) is not ParameterSource.DEFAULT
    }
    return [replace(recipe, learning_rate=rate, seed=seed, **given_settings) for rate, seed in product(rates, seeds)]


def _minutes(text: str | None, configs: list[TrainConfig]) -> float:
    """The time of --tune; 0 where it is not given."""
    if text is None:
        return 0.0
    if len(configs) > 1:
        raise RequestError(f"--tune chooses for one seed and at most one rate; found a grid of {len(configs)} runs.")
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or float(found[1]) == 0:
        raise RequestError(f"--tune takes a time such as 90s, 10m or 2h; found '{text}'.")
    return float(found[1]) * {"s": 1 / 60, "m": 1, "h": 60}[found[2]]


def _numbers(option: str, text: str | None, kind: type) -> list[Any]:
    """The numbers of a comma-separated option."""
    try:
        return [] if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"{option} takes numbers with commas between them; found '{text}'.") from None


def _check_precision(precision_at: float | None, data: "TaskData") -> None:
    """Before the work: a threshold is one of classes, found on validation."""
    if precision_at is None:
        return
    if not 0 < precision_at <= 1:
        raise RequestError(f"--precision-at takes a number above 0 and at most 1; found {precision_at:g}.")
    if data.task.kind != "class" or "validation" not in data.splits:
        what = "no validation" if data.task.kind == "class" else f"answers of kind '{data.task.kind}'"
        raise RequestError(f"--precision-at needs classes and a validation split; '{data.task.name}' has {what}.")


def _check_same_precision(precision_at: float | None, finished: "Run", path: Path) -> None:
    """A finished file keeps the threshold that it has."""
    there = finished.delta.settings.get("calibration", {}).get("precision")
    if precision_at not in (None, there):
        what = "no threshold" if there is None else f"the threshold of a precision of {there:g}"
        remedy = f"bitfit eval {path} --split validation --precision-at {precision_at:g} --out NEW"
        raise RequestError(f"{path} is finished and has {what}. `{remedy}` finds one; --overwrite trains it anew.")


def _maybe_get_threshold(run: "Run", precision_at: float) -> "Threshold | None":
    """None where the run was stopped before its answers on validation were looked at."""
    if run.validation is None:
        note("There is no threshold: the run was stopped before its answers on validation were looked at.")
        return None
    return run.validation.threshold(precision_at)


def _of_validation(run: "Run", threshold: "Threshold | None") -> dict[str, Any]:
    return {
        "validation": None if run.validation is None else run.validation.to_json(),
        "threshold": None if threshold is None else threshold.to_json(),
    }


def _show(console: "Console", runs: "list[Run]", best: int, path: Path, threshold: "Threshold | None") -> None:
    """What came of it, for a person."""
    run = runs[best]
    if len(runs) > 1:
        console.print(_grid(runs, best))
    share = 100 * run.trainable / run.parameters
    size = path.stat().st_size
    console.print(f"{run.delta.method} trained {run.trainable:,} of {run.parameters:,} parameters ({share:.2f} %)")
    for split, scores in run.scores.items():
        of = f" ({run.measured_on[split]})" if split in run.measured_on else ""
        how = ", while it learnt, with dropout" if split == "train" else ""
        console.print(f"{split}{of}{how}: " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    if run.validation is not None:
        show_figures(console, run.validation, threshold, MOST_CLASSES)
    if run.comparison:
        console.print(run.comparison)
    for finding in run.findings:
        console.print(in_shell(str(finding)))
    console.print(f"{path}: {size / 1000:,.0f} KB  ({run.seconds:,.0f} s, {run.tokens_per_second:,.0f} tokens/s)")


def _grid(runs: "list[Run]", best: int) -> Any:
    """A line for each run of a grid."""
    metric = runs[0].delta.task.metric
    rows = [
        (
            f"{run.config.learning_rate:g}",
            str(run.config.seed),
            f"{run.scores.get('validation', {}).get(metric, float('nan')):.4f}",
            str(run.best_epoch),
            "best" if i == best else "diverged" if run.diverged else "",
        )
        for i, run in enumerate(runs)
    ]
    return table("", ("learning rate", "seed", f"validation {metric}", "epoch", ""), rows)
