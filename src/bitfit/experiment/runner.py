"""Does the runs of a plan that are not done yet, together where they can share a pass.

Choosing between learning rates looks at validation alone. Any further split, such as a test, is read once, for the
rate that was chosen.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bitfit.backbone.device import Device
from bitfit.backbone.load import Backbone
from bitfit.data.examples import Examples, TaskData, measured_json
from bitfit.data.options import DataOptions
from bitfit.data.task import Task
from bitfit.delta.changes import changes
from bitfit.delta.delta import Delta
from bitfit.errors import BitfitError, RequestError, TrainingError
from bitfit.experiment.plan import Cell, Plan, PlannedRun, PlannedTask
from bitfit.experiment.results import RateChoice
from bitfit.experiment.store import Document, SplitFacts, Store
from bitfit.inference.evaluate import evaluate
from bitfit.inference.task_data import task_data
from bitfit.training.config import TrainConfig
from bitfit.training.run import Run
from bitfit.training.train import check_fit, shares_a_pass, train_rows
from bitfit.watcher import Watcher

CHOOSING = ("train", "validation")  # the splits that training and choosing may see
DIGITS = 6  # of a term's change


@dataclass(frozen=True)
class PlanOutcome:
    """How much of a plan is done."""

    planned: int
    before: int  # were there already
    done: int
    failed: Mapping[str, str]  # run -> why
    stopped: bool = False  # by the user, before its end

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "planned": self.planned,
            "before": self.before,
            "done": self.done,
            "failed": dict(self.failed),
            "stopped": self.stopped,
        }


def run_plan(
    backbone: Backbone,
    plan: Plan,
    folder: Path,
    *,
    data_dir: Path | None = None,
    keep_deltas: bool = False,
    watcher: Watcher | None = None,
    device: Device = "auto",
) -> PlanOutcome:
    """Do what is not done yet of a plan. A run that fails is named in the outcome, and the others go on.

    Ctrl-C ends it early: the outcome says so, and the same call goes on from the checkpoints.
    """
    runner = Runner(backbone, plan, Store(folder), data_dir, keep_deltas, Watcher.of(watcher), device)
    return runner.run()


class Runner:
    """A plan under way."""

    def __init__(
        self,
        backbone: Backbone,
        plan: Plan,
        store: Store,
        data_dir: Path | None,
        keep_deltas: bool,
        watcher: Watcher,
        device: Device,
    ) -> None:
        self.backbone, self.plan, self.store = backbone, plan, store
        self.data_dir, self.keep_deltas, self.watcher, self.device = data_dir, keep_deltas, watcher, device
        self.failed: dict[str, str] = {}
        self.done = 0
        self._read: tuple[PlannedTask, TaskData] | None = None  # the task of now

    def run(self) -> PlanOutcome:
        """All cells, in the plan's order."""
        for method in self.plan.methods:  # a method that cannot be is found before hours of work
            check_fit(self.backbone, method.method)
        cells = self.plan.cells
        planned = sum(len(cell.runs) for cell in cells)
        before = sum(len(self.store.documents(cell)) for cell in cells)
        self.store.open(self.plan)
        stopped = not self._all(cells)
        return PlanOutcome(planned, before, self.done, self.failed, stopped)

    def _all(self, cells: Sequence[Cell]) -> bool:
        """Every cell, one after another; False where the user stopped before the end."""
        try:
            for number, cell in enumerate(cells, start=1):
                if not self._cell(cell, f"{number} of {len(cells)}: {cell.method.label} on {cell.task.label}"):
                    return False
        except KeyboardInterrupt:
            return False
        return True

    def _cell(self, cell: Cell, title: str) -> bool:
        """The runs of a cell that are missing, then what only the chosen ones get; False where the user stopped."""
        missing = [run for run in cell.runs if self.store.maybe_get(run) is None]
        if missing:
            self.watcher.note(f"{title}, {len(missing)} of {len(cell.runs)} runs to do")
        if missing and not self._train(cell, missing):
            return False
        self._read_the_rest(cell)
        self.store.clear(cell, self.keep_deltas)
        return True

    def _train(self, cell: Cell, runs: list[PlannedRun]) -> bool:
        """Train some runs together, each alone where they cannot share a pass, or where one of them fails: so that each
        is written when it is done.

        False where the user stopped.
        """
        try:
            if self._share_a_pass(cell, runs):
                return self._train_together(cell, runs)
        except BitfitError as error:
            if len(runs) == 1 or not isinstance(error, TrainingError):
                self.watcher.note(f"failed: {error}")
                self.failed.update({run.name: str(error) for run in runs})
                return True
            self.watcher.note(f"failed together, now one after another: {error}")
        return all(self._train(cell, [run]) for run in runs)

    def _share_a_pass(self, cell: Cell, runs: list[PlannedRun]) -> bool:
        if len(runs) == 1:
            return True
        if not cell.method.method.shares_a_pass:
            return False
        return shares_a_pass(self.backbone, self._seen(cell), cell.method.method, self._configs(runs))

    def _train_together(self, cell: Cell, runs: list[PlannedRun]) -> bool:
        checkpoints = self.store.checkpoints(cell, runs)
        trained = train_rows(
            self.backbone,
            self._seen(cell),
            cell.method.method,
            self._configs(runs),
            watcher=self.watcher,
            checkpoints=checkpoints,
            baselines=False,  # a plan has its own methods to compare
        )
        if len(trained) < len(runs) or any(run.stopped for run in trained):
            return False  # the checkpoints stay: the same call goes on from them
        for planned, run in zip(runs, trained, strict=True):
            if run.diverged:
                self.failed[planned.name] = run.diverged
            else:
                self._keep(cell, planned, run)
        checkpoints.remove()
        return True

    def _configs(self, runs: list[PlannedRun]) -> list[TrainConfig]:
        return [replace(run.config, device=self.device) for run in runs]

    def _seen(self, cell: Cell) -> TaskData:
        """The splits that training may see, without the notes, which were shown when the data was read."""
        data = self._data(cell.task)
        return replace(data, splits={name: data.splits[name] for name in data.splits if name in CHOOSING}, notes=())

    def _keep(self, cell: Cell, planned: PlannedRun, run: Run) -> None:
        """Write a run's file. Its delta goes first: the choice between rates may have to come back to it."""
        data = self._data(cell.task)
        further = [split for split in data.splits if split not in CHOOSING]
        document = {
            **run.to_json(),
            "experiment": self.plan.name,
            "label": cell.task.label,
            "asked": planned.asked,
            "unread": further,
            "measured_on": measured_json(data.measured_on),
            "notes": self._notes(data),
            "changes": self._changes(cell, run.delta),
        }
        if further and len(cell.rates) == 1:
            document = self._with_further(document, planned, run.delta, data)
        if self.keep_deltas or document["unread"]:
            path = self.store.delta_path(planned)
            path.parent.mkdir(exist_ok=True)
            run.delta.save(path)
        self.store.put(planned, document)
        self.done += 1

    def _notes(self, data: TaskData) -> list[str]:
        """The notes about the data, without the folder that holds it: that is another one on another machine."""
        above = f"{self.data_dir}{os.sep}"
        return [note.replace(above, "") for note in data.notes]

    def _read_the_rest(self, cell: Cell) -> None:
        """The chosen rate's runs read the splits that nobody has seen yet."""
        documents = self.store.documents(cell)
        if not documents:
            return
        rate = RateChoice.of(documents, cell.rates).chosen
        for run in cell.runs:
            document = self.store.maybe_get(run)
            if document is None or run.config.learning_rate != rate or not document["unread"]:
                continue
            path = self.store.delta_path(run)
            if not path.exists():
                self.watcher.note(f"{run.name}: its delta is gone, so {', '.join(document['unread'])} stays unread")
                continue
            delta = Delta.load(path)
            self.store.put(run, self._with_further(document, run, delta, self._data(cell.task)))

    def _with_further(self, document: Document, run: PlannedRun, delta: Delta, data: TaskData) -> dict[str, Any]:
        """A run's file with the scores of the splits that were not read before."""
        precision, device = run.config.precision, self.device
        scores = {
            split: evaluate(self.backbone, delta, data, split, precision=precision, device=device)
            for split in document["unread"]
        }
        return {**document, "scores": {**document["scores"], **scores}, "unread": []}

    def _changes(self, cell: Cell, delta: Delta) -> dict[str, list[float]]:
        """The mean absolute change of each term, a value for each layer; of bias methods alone."""
        if not cell.method.method.is_bias_method:
            return {}
        by_term: dict[str, list[float]] = {}
        for change in changes(delta, self.backbone):
            by_term.setdefault(change.symbol or change.role, []).append(float(f"{change.change:.{DIGITS}g}"))
        return by_term

    def _data(self, task: PlannedTask) -> TaskData:
        """A task's examples; read once, since all cells of a task follow one another."""
        if self._read is None or self._read[0] is not task:
            options = DataOptions(data_dir=self.data_dir, **task.options)
            data = task_data(self.backbone, task.name, options)
            for note in data.notes:
                self.watcher.note(note)
            if "validation" not in data.splits:
                raise RequestError(f"'{task.name}' has no validation split: nothing can be chosen on it.")
            self.store.put_splits(task.label, {name: split_facts(data.task, one) for name, one in data.splits.items()})
            self._read = (task, data)
        return self._read[1]


def split_facts(task: Task, examples: Examples) -> SplitFacts:
    """What scores on a split are compared with."""
    if task.kind not in ("class", "tags"):
        return SplitFacts(len(examples))
    labels = examples.labels[examples.labels >= 0]  # below 0 stand unknown labels, and pieces that begin no word
    largest = np.bincount(labels).max() / len(labels) if len(labels) else 0.0
    return SplitFacts(len(labels), round(float(largest), 6))
