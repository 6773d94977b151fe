"""Trains a task by name, file or data: puts backbone, method, data and settings together, and makes runs of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.backbone.load import Backbone
from bitfit.backbone.memory import keep_freed_memory
from bitfit.backbone.packed import RowModel
from bitfit.backbone.precision import compute_format
from bitfit.backbone.task_model import head_start
from bitfit.data.batch import tokenize
from bitfit.data.examples import TaskData
from bitfit.data.options import DataOptions
from bitfit.data.source import load_task
from bitfit.data.table import TaskTable
from bitfit.delta.delta import Delta
from bitfit.errors import BackboneError
from bitfit.methods.row import RowMap, carried
from bitfit.methods.selection import HeadMode, Selection, select
from bitfit.training.config import TrainConfig
from bitfit.training.engine import Job, Progress, Training
from bitfit.training.metrics import score
from bitfit.training.outputs import outputs
from bitfit.training.run import Run, versions
from bitfit.training.watch import Watcher

Data = str | TaskTable | TaskData


@dataclass(frozen=True)
class Method:
    """What trains, and how much of the head."""

    name: str = "bitfit"
    head: HeadMode = "full"


def train(
    backbone: Backbone,
    task: Data,
    method: str | Method = "bitfit",
    config: TrainConfig | None = None,
    *,
    options: DataOptions | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Train one row: a task by its name, a file or folder of one's own, or data already read."""
    return train_rows(backbone, task, method, [config or TrainConfig()], options=options, watcher=watcher)[0]


def train_rows(
    backbone: Backbone,
    task: Data,
    method: str | Method,
    configs: Sequence[TrainConfig],
    *,
    options: DataOptions | None = None,
    watcher: Watcher | None = None,
) -> list[Run]:
    """Train several rows in one pass over one backbone, each with its own settings; one run for each config."""
    method = Method(method) if isinstance(method, str) else method
    watcher = watcher or Watcher()
    keep_freed_memory()
    settled = [config.settled(method.name) for config in configs]
    data = task_data(backbone, task, options or DataOptions())
    for note in data.notes:
        watcher.said(note)
    setting = Setting.of(backbone, data, method, settled[0])
    if not setting.model.packed:
        watcher.said(f"{backbone.config.model_type} runs on padded batches: it does not take them without padding")
    if len(configs) == 1 or setting.takes(settled):
        return setting.train(settled, watcher)
    watcher.said(f"{method.name} on {backbone.config.model_type} cannot share a pass: one run after another")
    # Each has its own setting: the elements that a method draws depend on the seed.
    return [run for config in settled for run in Setting.of(backbone, data, method, config).train([config], watcher)]


def task_data(backbone: Backbone, task: Data, options: DataOptions) -> TaskData:
    """The task's examples, tokenized for this backbone."""
    if isinstance(task, TaskData):
        return task
    table = load_task(task, options=options) if isinstance(task, str) else task
    if backbone.tokenizer is None:
        raise BackboneError(f"'{backbone.name}' has no tokenizer. Expected tokenizer files beside its config.json.")
    return tokenize(table, backbone.tokenizer)


@dataclass(frozen=True, eq=False)
class Setting:
    """A method on a backbone's task model, ready to train."""

    backbone: Backbone
    data: TaskData
    method: Method
    selection: Selection
    rows: RowMap
    model: RowModel
    heads: Any  # the plain task model, for heads of other seeds
    parameters: int

    @classmethod
    def of(cls, backbone: Backbone, data: TaskData, method: Method, config: TrainConfig) -> "Setting":
        """Build the model and resolve the method on it."""
        if not backbone.has_weights:
            raise BackboneError(f"'{backbone.name}' has no weights, only a configuration: it cannot be trained.")
        plain = backbone.task_model(data.task.head)
        selection = select(plain, method.name, method.head, config.seed)
        rows = RowMap(carried(selection, plain), plain)
        parameters = sum(p.numel() for p in plain.parameters())
        head = data.task.head
        model = RowModel(backbone.task_model(head), head, compute_format(config.precision))
        return cls(backbone, data, method, selection, rows, model, plain, parameters)

    def takes(self, configs: Sequence[TrainConfig]) -> bool:
        """Can these rows be trained together?"""
        alike = len({config.precision for config in configs}) == 1
        return alike and self.model.takes_rows(slot.name for slot in self.rows.slots)

    def train(self, configs: Sequence[TrainConfig], watcher: Watcher) -> list[Run]:
        """Train these rows together."""
        start = torch.stack([self.rows.starting_row(head_start(self.heads, config.seed)) for config in configs])
        training = Training(Job(self.model, self.rows, self.data, tuple(configs), start), watcher)
        training.run()
        return [self._run(training, i) for i in range(len(configs))]

    def _run(self, training: Training, row: int) -> Run:
        """What became of one row."""
        state, best = training.progress[row], training.best[row]
        scores = self._scores(state, best)
        return Run(
            delta=self._delta(state.config, best, scores),
            config=state.config,
            history=tuple(state.history),
            scores=scores,
            best_epoch=state.best_epoch,
            trainable=self.selection.size,
            parameters=self.parameters,
            seconds=training.seconds,
            tokens_per_second=training.tokens / max(training.seconds, 1e-9),
            stopped=training.stopped and not state.ended,
        )

    def _scores(self, state: Progress, best: Tensor) -> dict[str, dict[str, float]]:
        """The best epoch's scores, and those of every further split, which is read here for the first time."""
        scores: dict[str, dict[str, float]] = {}
        if state.best_epoch:
            epoch = state.history[state.best_epoch - 1]
            for split in ("train", "validation"):
                if set(epoch[split]) - {"loss"}:
                    scores[split] = {name: value for name, value in epoch[split].items() if name != "loss"}
        values = self.rows.tensors(best[None])
        for split, examples in self.data.splits.items():
            if split not in ("train", "validation"):
                scores[split] = score(self.data.task, examples, outputs(self.model, values, examples)[0].values)
        return scores

    def _delta(self, config: TrainConfig, values: Tensor, scores: dict[str, dict[str, float]]) -> Delta:
        """The file's content."""
        return Delta(
            backbone=self.backbone.name,
            fingerprint=self.backbone.fingerprint,
            method=self.method.name,
            head_mode=self.method.head,
            slots=self.rows.slots,
            values=slot_values(self.rows, values),
            task=self.data.task,
            scores=scores,
            settings=config.to_json(),
            versions=versions(),
        )


def slot_values(rows: RowMap, row: Tensor) -> dict[str, NDArray[np.float32]]:
    """A row cut into its slots, in the shape that a delta keeps them."""
    parts = row.split(rows.sizes)
    return {
        slot.key: part.reshape(slot.shape if slot.index is None else -1).numpy().copy()
        for slot, part in zip(rows.slots, parts, strict=True)
    }
