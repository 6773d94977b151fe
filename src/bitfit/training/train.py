"""Trains a task by name, file or data: one row, or several in one pass over one backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from bitfit.backbone.device import chosen_device
from bitfit.backbone.heads import Head
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.data.examples import TaskData
from bitfit.data.options import DataOptions
from bitfit.errors import BackboneError, RequestError, TrainingError
from bitfit.inference.task_data import Data, task_data
from bitfit.methods.method import Method
from bitfit.training import balance, few_shot
from bitfit.training.baselines import baseline_scores
from bitfit.training.build import Built, build, may_share_a_pass
from bitfit.training.checkpoint import Checkpoints
from bitfit.training.config import TrainConfig, TrainSettings
from bitfit.training.findings import data_findings, grid_findings, setting_findings
from bitfit.training.phases import train_built
from bitfit.training.recipe import Recipe, ResumableRequest
from bitfit.training.run import Run, best_run
from bitfit.watcher import Watcher

_OTHERS = ("config", "options", "watcher", "checkpoints", "baselines")  # keywords of `train` beside the settings
ANY_HEAD = Head("class", 2, "mean")  # one that every architecture has


def train(
    backbone: Backbone | str | Path,
    task: Data,
    method: str | Method = "bitfit",
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    options: DataOptions | Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    checkpoints: Checkpoints | None = None,
    baselines: bool = True,
    **settings: Unpack[TrainSettings],
) -> Run:
    """Train one row on a task: its name, a file or folder, or its rows in memory.

    A model's name or folder stands for its backbone. Settings are keywords, as epochs=1; or a TrainConfig or a dict,
    config={"epochs": 1}, of which keywords change single ones.
    With `checkpoints`, a run that was killed goes on where it was; remove them when its result is safe. With
    `baselines`, the run also says what a linear probe on the frozen model and TF-IDF reach.
    """
    if of_data := [name for name in settings if name in DataOptions.__dataclass_fields__ and name != "seed"]:
        name = of_data[0]
        raise RequestError(f"'{name}' is an option of the data: options={{'{name}': {settings.get(name)!r:.80}}}.")
    rows = [TrainConfig.of(config).changed(settings, _OTHERS)]
    return train_rows(
        backbone,
        task,
        method,
        rows,
        options=options,
        watcher=watcher,
        checkpoints=checkpoints,
        baselines=baselines,
    )[0]


def train_rows(
    backbone: Backbone | str | Path,
    task: Data,
    method: str | Method,
    configs: Sequence[TrainConfig | Mapping[str, Any]],
    *,
    options: DataOptions | Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    checkpoints: Checkpoints | None = None,
    baselines: bool = True,
) -> list[Run]:
    """Train several rows in one pass over one backbone, each with its own settings; one run for each config.

    A row whose loss is no longer finite ends there: its run and its delta say so, and `best_run` passes it over. Where
    none is left, that is a TrainingError.
    """
    if not configs or isinstance(configs, TrainConfig | Mapping):
        raise RequestError(f"Expected a list with one TrainConfig for each row; found {configs!r:.80}.")
    settings = [TrainConfig.of(config) for config in configs]
    if not isinstance(checkpoints, Checkpoints | None):
        raise RequestError(f"Expected Checkpoints, as in bitfit.Checkpoints(folder); found {checkpoints!r:.80}.")
    backbone, method, watcher = as_backbone(backbone), Method.of(method), Watcher.of(watcher)
    check_fit(backbone, method)
    chosen_device(settings[0].device)  # a GPU that is not there is refused before data is read
    data = task_data(backbone, task, DataOptions.of(options))
    for note in data.notes:
        watcher.note(note)
    recipe = Recipe.of(backbone, data, method, settings)
    if any(config.balance == "weights" for config in recipe.configs):
        watcher.note(balance.note(data))
    if any(config.few_shot == "on" for config in recipe.configs):
        watcher.note(few_shot.note(data))
    rivals = baseline_scores(backbone, data, settings[0], watcher.note) if baselines else {}
    runs = _train(recipe, ResumableRequest.of(recipe.asked(), checkpoints), watcher)
    if all(run.diverged for run in runs):
        if checkpoints is not None:
            checkpoints.remove()  # they lead to the same end
        raise TrainingError("\n".join(dict.fromkeys(str(run.diverged) for run in runs)))
    return _noted([run.beside(rivals) for run in runs], data, method)


def _noted(runs: list[Run], data: TaskData, method: Method) -> list[Run]:
    """The runs with what their data, their settings and each other tell."""
    of_data, task = data_findings(data), data.task
    runs = [run.noting([*of_data, *setting_findings(run.config, method, run.delta.slots)]) for run in runs]
    best = best_run(runs)
    scores = [None if run.diverged else run.scores.get("validation", {}).get(task.metric) for run in runs]
    configs, raced = [run.config for run in runs], "race" in runs[best].delta.settings
    runs[best] = runs[best].noting(grid_findings(configs, scores, best, task, raced))
    return runs


def shares_a_pass(backbone: Backbone, data: TaskData, method: Method, configs: Sequence[TrainConfig]) -> bool:
    """Would `train_rows` train all these rows in one pass? The model is built to see, and nothing is trained."""
    recipe = Recipe.of(backbone, data, method, configs)
    if len(configs) == 1 or not may_share_a_pass(recipe):
        return len(configs) == 1
    return build(recipe, ResumableRequest.of(recipe.asked(), None), lambda text: None).shares_a_pass


def check_fit(backbone: Backbone, method: Method) -> None:
    """Refuse a method that the model cannot have, before any data is read."""
    if not backbone.has_weights:
        raise BackboneError(f"'{backbone.name}' has no weights, only a configuration: it cannot be trained.")
    method.check(backbone.task_model(ANY_HEAD))


def _train(recipe: Recipe, request: ResumableRequest, watcher: Watcher) -> list[Run]:
    """All rows of a recipe, together where they can share a pass."""
    built, architecture = build(recipe, request, watcher.note), recipe.backbone.config.model_type
    if not built.model.packed:
        watcher.note(f"{architecture} runs on padded batches: it does not take them without padding")
    if built.shares_a_pass:
        return train_built(built, request, watcher)
    few = any(config.few_shot == "on" for config in recipe.configs)
    what = "few-shot runs" if few else f"{recipe.method.name} on {architecture}"
    watcher.note(f"{what} cannot share a pass: one run after another")
    return _one_after_another(built, request, watcher)


def _one_after_another(first: Built, request: ResumableRequest, watcher: Watcher) -> list[Run]:
    """Each with a model of its own: the elements that a method draws depend on the seed. Ctrl-C keeps the runs that are
    done."""
    runs: list[Run] = []
    recipe = first.recipe
    for row in range(len(recipe.configs)):
        asked = request.within(row)
        try:
            built = build(recipe.only(row), asked, watcher.note) if row else replace(first, recipe=recipe.only(row))
            runs += train_built(built, asked, watcher)
        except KeyboardInterrupt:
            if not runs:
                raise
            break
        if runs[-1].diverged:
            watcher.note(f"run {row + 1} of {len(recipe.configs)} has no result: {runs[-1].diverged}")
        if runs[-1].stopped:
            break
    return runs
