"""Drives the phases of a training through the one loop, and makes a run of each row."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bitfit.data.examples import TaskData
from bitfit.methods.method import Phase
from bitfit.runtime.precision import surroundings
from bitfit.training import few_shot, head_start
from bitfit.training.build import Built
from bitfit.training.config import TrainConfig
from bitfit.training.frozen_prefix import with_states
from bitfit.training.loop import Job, Training
from bitfit.training.outcome import Outcome, make_run
from bitfit.training.recipe import ResumableRequest
from bitfit.training.run import Run
from bitfit.watcher import Watcher


@dataclass
class Earlier:
    """What the phases that are over add to a run."""

    seconds: float = 0.0  # those that went into the states at the model's boundary among them
    tokens: int = 0
    history: list[Mapping[str, Any]] = field(default_factory=list)
    stopped: bool = False
    diverged: str | None = None

    def add(self, name: str, training: Training) -> None:
        """A phase of one row has ended."""
        row = training.progress[0]
        self.seconds += training.seconds
        self.tokens += training.tokens
        self.history += [{"phase": name, **epoch} for epoch in row.history]
        self.stopped = training.stopped
        self.diverged = row.diverged


def train_built(built: Built, request: ResumableRequest, watcher: Watcher) -> list[Run]:
    """Train the rows of a recipe together; one run for each."""
    recipe = built.recipe
    began = time.perf_counter()
    data = _data_at_boundary(built, watcher)
    earlier = Earlier(seconds=time.perf_counter() - began if data is not recipe.data else 0.0)
    phase, lineup = built.phase, built.lineup
    start = _starts(built, lineup.configs, watcher)
    for name in recipe.method.phases[:-1]:
        phase, start = _train_phase(built, (phase, start), name, request.within(name), watcher, earlier)
    if recipe.configs[0].few_shot == "on":
        start = _contrast(built, start, data, request.within(few_shot.STAGE), watcher, earlier)
    last = recipe.method.phases[-1]
    job = Job(built.model, phase.theta, data, lineup.configs, start, lineup.races)
    training = _train(built, job, request.within(last) if last else request, watcher, earlier)
    outcome = Outcome(
        built,
        phase,
        training,
        request,
        data,
        seconds=earlier.seconds + training.seconds,
        tokens=earlier.tokens + training.tokens,
        history=tuple(earlier.history),
        diverged=earlier.diverged,
    )
    return [make_run(outcome, group) for group in lineup.groups]


def _starts(built: Built, configs: Sequence[TrainConfig], watcher: Watcher) -> Tensor:
    """Each row before training, (rows, P)."""
    recipe, heads = built.recipe, {}
    for config in configs:
        if config.head_start not in heads:
            where = recipe.backbone, built.plain, recipe.data
            heads[config.head_start] = head_start.values(config, *where, watcher.note)
    return torch.stack([built.start(config.seed, heads[config.head_start]) for config in configs])


def _train_phase(
    built: Built, at: tuple[Phase, Tensor], name: str, request: ResumableRequest, watcher: Watcher, earlier: Earlier
) -> tuple[Phase, Tensor]:
    """A phase that is not the last, of one row: what trains after it, and from where. What it took, several times the
    model's size, is free again afterwards."""
    phase, start = at
    job = Job(built.model, phase.theta, built.recipe.data, built.recipe.configs, start)
    training = _train(built, job, request, watcher, earlier)
    earlier.add(name, training)
    values = training.best if earlier.diverged else training.theta.detach()
    method = built.recipe.method
    following, start = method.next_phase(built.plain, built.model, phase.theta, values)
    if not earlier.diverged:
        left = f"{following.selection.size:,} elements are left, the head's among them"
        watcher.note(f"{method.name}: {left}; they train on")
    return following, start


def _contrast(
    built: Built, start: Tensor, data: TaskData, request: ResumableRequest, watcher: Watcher, earlier: Earlier
) -> Tensor:
    """The first stage of few examples, of one row, and from where the second one goes on, (1, P)."""
    theta, config = built.phase.theta, few_shot.stage_config(built.recipe.configs[0], data)
    job = Job(built.model, theta, few_shot.stage_data(data), (config,), start)
    training = _train(built, job, request, watcher, earlier, few_shot.Contrast)
    earlier.add(few_shot.STAGE, training)
    if earlier.diverged:
        return training.best
    return few_shot.with_fitted_head(training.best[0], theta, built.model, data, training.budget)[None]


def _train(
    built: Built,
    job: Job,
    request: ResumableRequest,
    watcher: Watcher,
    earlier: Earlier,
    kind: type[Training] = Training,
) -> Training:
    """The loop, from these rows on; where an earlier phase was stopped or diverged it does nothing."""
    writer = request.maybe_get_writer(built.compute, built.model.device, watcher)
    try:
        training = kind(job, watcher, writer)
        training.stopped = earlier.stopped
        if not earlier.stopped and not earlier.diverged:
            training.run()
    finally:
        if writer is not None:
            writer.close()
    return training


def _data_at_boundary(built: Built, watcher: Watcher) -> TaskData:
    """The layers below the model's boundary read every example once, before training and without dropout."""
    if not built.model.boundary:
        return built.recipe.data
    about = {"model": built.recipe.backbone.fingerprint, **surroundings(built.compute, built.model.device)}
    return with_states(built.recipe.data, built.model, about, watcher.note)
