"""Trains a task by name, file or data: puts backbone, method, data and settings together, and makes runs of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from bitfit.backbone.device import chosen_device
from bitfit.backbone.heads import Head
from bitfit.backbone.load import Backbone
from bitfit.backbone.memory import keep_freed_memory
from bitfit.backbone.task_model import head_start
from bitfit.data.examples import TaskData
from bitfit.data.options import DataOptions
from bitfit.delta.delta import Delta
from bitfit.errors import BackboneError, RequestError, TrainingError
from bitfit.inference.metrics import score
from bitfit.inference.outputs import outputs
from bitfit.inference.pass_budget import Budget
from bitfit.inference.task_data import Data, task_data
from bitfit.methods.method import Method, Phase
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.environment import surroundings, versions
from bitfit.runtime.precision import trusted
from bitfit.runtime.row_model import RowModel
from bitfit.training.checkpoint import Checkpoints
from bitfit.training.config import TrainConfig
from bitfit.training.frozen_prefix import chosen_boundary, with_states
from bitfit.training.loop import Job, Progress, Training
from bitfit.training.resolve import first_phase
from bitfit.training.resumable import ResumableRequest
from bitfit.training.run import Run
from bitfit.training.run_key import request
from bitfit.watcher import Watcher

ANY_HEAD = Head("class", 2, "mean")  # one that every architecture has


def train(
    backbone: Backbone,
    task: Data,
    method: str | Method = "bitfit",
    config: TrainConfig | None = None,
    *,
    options: DataOptions | None = None,
    watcher: Watcher | None = None,
    checkpoints: Checkpoints | None = None,
) -> Run:
    """Train one row: a task by its name, a file or folder of one's own, or data already read.

    With `checkpoints`, a run that was killed goes on where it was; remove them when its result is safe.
    """
    configs = [config or TrainConfig()]
    return train_rows(backbone, task, method, configs, options=options, watcher=watcher, checkpoints=checkpoints)[0]


def train_rows(
    backbone: Backbone,
    task: Data,
    method: str | Method,
    configs: Sequence[TrainConfig],
    *,
    options: DataOptions | None = None,
    watcher: Watcher | None = None,
    checkpoints: Checkpoints | None = None,
) -> list[Run]:
    """Train several rows in one pass over one backbone, each with its own settings; one run for each config.

    A row whose loss is no longer finite ends there, and its run says so; where none is left, that is a TrainingError.
    """
    _check_kinds(backbone, configs)
    method = Method.of(method)
    watcher = watcher or Watcher()
    settled = [config.settled(method) for config in configs]
    check_fit(backbone, method)
    keep_freed_memory(chosen_device(settled[0].device))  # a GPU that is not there is refused before data is read
    data = task_data(backbone, task, options or DataOptions())
    for note in data.notes:
        watcher.note(note)
    held = ResumableRequest.of(asked_for(backbone, data, method, settled), checkpoints)
    setting = Setting.of(backbone, data, method, settled[0], held)
    if not setting.model.packed:
        watcher.note(f"{backbone.config.model_type} runs on padded batches: it does not take them without padding")
    if len(configs) == 1 or setting.takes(settled):
        runs = setting.train(settled, watcher)
    else:
        watcher.note(f"{method.name} on {backbone.config.model_type} cannot share a pass: one run after another")
        runs = _one_after_another(setting, settled, watcher)
    if all(run.diverged for run in runs):
        if checkpoints is not None:
            checkpoints.remove()  # they lead to the same end
        raise TrainingError("\n".join(dict.fromkeys(str(run.diverged) for run in runs)))
    return runs


def _one_after_another(setting: "Setting", configs: Sequence[TrainConfig], watcher: Watcher) -> list[Run]:
    """Each with a setting of its own: the elements that a method draws depend on the seed. Ctrl-C keeps the runs
    that are done."""
    runs: list[Run] = []
    for i, config in enumerate(configs):
        try:
            held = setting.held.part(i)
            own = Setting.of(setting.backbone, setting.data, setting.method, config, held)
            runs += own.train([config], watcher)
        except KeyboardInterrupt:
            if not runs:
                raise
            break
        if runs[-1].stopped:
            break
    return runs


def _check_kinds(backbone: Backbone, configs: Sequence[TrainConfig]) -> None:
    if not isinstance(backbone, Backbone):
        raise RequestError(f"Expected a backbone, as bitfit.load gives it; found {backbone!r:.80}.")
    if not configs or not all(isinstance(config, TrainConfig) for config in configs):
        raise RequestError(f"Expected one TrainConfig for each row; found {configs!r:.80}.")


def asked_for(backbone: Backbone, data: TaskData, method: Method, configs: Sequence[TrainConfig]) -> dict[str, Any]:
    """What tells this training from any other, as plain values."""
    return request(backbone, data, method.name, method.head, [config.settled(method) for config in configs])


def check_fit(backbone: Backbone, method: Method) -> None:
    """Refuse a method that the model cannot have, before any data is read."""
    if not backbone.has_weights:
        raise BackboneError(f"'{backbone.name}' has no weights, only a configuration: it cannot be trained.")
    method.check(backbone.task_model(ANY_HEAD))


@dataclass(frozen=True, eq=False)
class Setting:
    """A method on a backbone's task model, ready to train."""

    backbone: Backbone
    data: TaskData
    method: Method
    phase: Phase
    model: RowModel
    plain: PreTrainedModel
    parameters: int
    held: ResumableRequest
    compute: torch.dtype
    ahead: float = 0.0  # seconds that went into the states at the model's boundary

    @classmethod
    def of(
        cls, backbone: Backbone, data: TaskData, method: Method, config: TrainConfig, held: ResumableRequest
    ) -> "Setting":
        """Build the model and resolve the method on it."""
        head = data.task.head
        plain, inner = backbone.task_model(head), backbone.task_model(head)
        parameters = sum(p.numel() for p in plain.parameters())
        device = held.device(config.device)
        compute = held.compute(trusted(config.precision, backbone.config.model_type), device)
        for one in (plain, inner):
            method.insert(one)
        model = RowModel(inner, head, compute, device)
        phase = first_phase(method, plain, model, data, config)
        return cls(backbone, data, method, phase, model, plain, parameters, held, compute)

    @property
    def rows(self) -> ThetaMap:
        """How the values of the phase are laid out."""
        return self.phase.theta

    def takes(self, configs: Sequence[TrainConfig]) -> bool:
        """Can these rows be trained together?"""
        alike = len({(config.precision, config.prefix_cache, config.device) for config in configs}) == 1
        if self.method.reads_data:  # what is chosen depends on the seed
            alike = alike and len({config.seed for config in configs}) == 1
        return alike and self.method.shares_a_pass and self.model.takes_rows(slot.name for slot in self.rows.slots)

    def train(self, configs: Sequence[TrainConfig], watcher: Watcher) -> list[Run]:
        """Train these rows together."""
        ready = self._read_ahead(configs[0], watcher)
        if len(self.method.phases) > 1:
            return [ready._train_gates(configs[0], watcher)]
        start = torch.stack([self._start(config.seed) for config in configs])
        training = ready._loop(start, configs, watcher)
        return [ready._run(training, i) for i in range(len(configs))]

    def set_boundary(self, config: TrainConfig, say: Callable[[str], None]) -> int:
        """The model starts there from now on, with no dropout below it; 0 where none is wanted or none can be."""
        names = [slot.name for slot in self.rows.slots]
        self.model.boundary = chosen_boundary(self.model, names, config.prefix_cache, say)
        return self.model.boundary

    def _read_ahead(self, config: TrainConfig, watcher: Watcher) -> "Setting":
        """The layers below all that trains read every example once, before training and without dropout."""
        if not self.set_boundary(config, watcher.note):
            return self
        began = time.perf_counter()
        about = {"model": self.backbone.fingerprint, **surroundings(self.compute, self.model.device)}
        data = with_states(self.data, self.model, about, watcher.note)
        return replace(self, data=data, ahead=time.perf_counter() - began)

    def _start(self, seed: int) -> Tensor:
        """A row before training: the backbone's values, and a head and new parameters drawn from the seed."""
        drawn = {**head_start(self.plain, seed), **self.method.start(self.plain, seed)}
        return self.rows.starting_row(drawn)

    def _loop(self, start: Tensor, configs: Sequence[TrainConfig], watcher: Watcher, stopped: bool = False) -> Training:
        """The loop, from these rows on; one that was stopped before it began does nothing."""
        keeper = self.held.keeper(self.compute, self.model.device, watcher)
        try:
            training = Training(Job(self.model, self.rows, self.data, tuple(configs), start), watcher, keeper)
            training.stopped = stopped
            if not stopped:
                training.run()
        finally:
            if keeper is not None:
                keeper.close()
        return training

    def _train_gates(self, config: TrainConfig, watcher: Watcher) -> Run:
        """Two phases of the same loop: all differences with gates, then what the gates left."""
        start = self._start(config.seed)[None]
        first = replace(self, held=self.held.part("gates"))._loop(start, [config], watcher)
        diverged = first.progress[0].diverged
        if diverged is not None:
            raise TrainingError(diverged)
        phase, left = self.method.next_phase(self.plain, self.model, self.rows, first.theta.detach())
        left_over = f"{phase.selection.size:,} elements are left, the head's among them"
        watcher.note(f"{self.method.name}: {left_over}; they train on")
        second = replace(self, phase=phase, held=self.held.part("left"))
        history = [{"phase": "gates", **epoch} for epoch in first.progress[0].history]
        seconds, tokens, stopped = first.seconds, first.tokens, first.stopped
        del first, start  # several times the model's size
        run = second._run(second._loop(left, [config], watcher, stopped), 0)
        seconds += run.seconds
        rate = (tokens + run.seconds * run.tokens_per_second) / max(seconds, 1e-9)
        return replace(run, history=(*history, *run.history), seconds=seconds, tokens_per_second=rate)

    def _run(self, training: Training, row: int) -> Run:
        """What became of one row."""
        state, best = training.progress[row], training.best[row]
        stopped = training.stopped and not state.ended
        scores = _chosen_scores(state)
        if not stopped and not state.diverged:
            try:
                scores |= self._further_scores(best, training.budget)
            except KeyboardInterrupt:  # who presses Ctrl-C does not wait for a test
                stopped = True
        return Run(
            delta=self._delta(state.config, best, scores, stopped),
            config=state.config,
            history=tuple(state.history),
            scores=scores,
            best_epoch=state.best_epoch,
            trainable=self.phase.selection.size,
            parameters=self.parameters,
            seconds=training.seconds + self.ahead,
            tokens_per_second=training.tokens / max(training.seconds + self.ahead, 1e-9),
            stopped=stopped,
            diverged=state.diverged,
            measured_on=self._measured(scores),
        )

    def _measured(self, scores: Mapping[str, Any]) -> dict[str, str]:
        """On how many rows each split was scored, as the data says it."""
        return {split: self.data.measured_on[split] for split in scores if split in self.data.measured_on}

    def _further_scores(self, best: Tensor, budget: Budget) -> dict[str, dict[str, float]]:
        """Those of every further split, which is read here for the first time."""
        scores: dict[str, dict[str, float]] = {}
        values = self.rows.tensors(best[None])
        for split, examples in self.data.splits.items():
            if split not in ("train", "validation"):
                found = budget.fit(partial(outputs, self.model, values, examples, 1))
                scores[split] = score(self.data.task, examples, found[0].values)
        return scores

    def _delta(self, config: TrainConfig, values: Tensor, scores: dict[str, dict[str, float]], stopped: bool) -> Delta:
        """The file's content. Its settings say which request it answers, and if it was stopped before its end."""
        asked: dict[str, Any] = {
            "run": self.held.key,
            "data": dict(self.held.asked["data"]),
            "measured_on": self._measured(scores),
        }
        if stopped:
            asked["stopped"] = True
        if self.model.device.type != "cpu":
            asked["device"] = self.model.device.type
        return Delta(
            backbone=self.backbone.name,
            fingerprint=self.backbone.fingerprint,
            method=self.method.name,
            head_mode=self.method.head,
            slots=self.rows.slots,
            values=slot_values(self.rows, values),
            task=self.data.task,
            scores=scores,
            settings={**config.to_json(), **asked},
            versions=versions(),
        )


def _chosen_scores(state: Progress) -> dict[str, dict[str, float]]:
    """The best epoch's scores, without the losses."""
    if not state.best_epoch:
        return {}
    epoch = state.history[state.best_epoch - 1]
    found = {
        split: {name: value for name, value in epoch[split].items() if name != "loss"}
        for split in ("train", "validation")
    }
    return {split: scores for split, scores in found.items() if scores}


def slot_values(rows: ThetaMap, row: Tensor) -> dict[str, NDArray[np.float32]]:
    """A row cut into its slots, in the shape that a delta keeps them."""
    parts = row.split(rows.sizes)
    return {
        slot.key: part.reshape(slot.shape if slot.index is None else -1).cpu().numpy().copy()
        for slot, part in zip(rows.slots, parts, strict=True)
    }
