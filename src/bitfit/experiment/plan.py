"""A plan: which methods on which tasks, with which settings.

It expands into cells (a task and a method), and each cell into runs (a learning rate and a seed).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from bitfit.files import file_name
from bitfit.methods.method import Method
from bitfit.training.config import TrainConfig

PLANNED_EPOCHS = 3  # where a plan names none


@dataclass(frozen=True)
class PlannedTask:
    """A task of a plan."""

    name: str  # what `bitfit train` would take
    label: str  # what reports call it
    options: Mapping[str, Any] = field(default_factory=dict)  # DataOptions that it sets
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedMethod:
    """A method of a plan."""

    method: Method
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.name if self.method.head == "full" else f"{self.name} (head: {self.method.head})"


@dataclass(frozen=True)
class PlannedRun:
    """One run: a name for its files, and all that decides what comes of it."""

    name: str
    config: TrainConfig
    asked: Mapping[str, Any]  # JSON values; a result of anything else is not this run's


@dataclass(frozen=True)
class Cell:
    """A method on a task. A setting of the method wins over one of the task, and that over the common one."""

    model: str
    task: PlannedTask
    method: PlannedMethod
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its part of file names."""
        return f"{file_name(self.task.label)}--{file_name(self.method.label)}"

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """A run for each learning rate and seed."""
        rates, seeds = self.settings.get("learning_rate"), self.settings["seeds"]
        return tuple(self._run(*pair) for pair in product(rates if isinstance(rates, list) else [rates], seeds))

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates to choose from."""
        rates = (run.config.learning_rate for run in self.runs)
        return tuple(dict.fromkeys(rate for rate in rates if rate is not None))

    def _run(self, rate: float | None, seed: int) -> PlannedRun:
        settings = {key: value for key, value in self.settings.items() if key not in ("learning_rate", "seeds")}
        rate = None if rate is None else float(rate)
        # A plan says everything before it has seen the data: what suits them is not asked for.
        unasked = {"epochs": PLANNED_EPOCHS, "head_start": "random", "balance": "none", "few_shot": "off"}
        settings = {**unasked, **settings}
        config = TrainConfig(learning_rate=rate, seed=seed, **settings)
        config = config.settled(self.method.method, examples=0)
        asked = {
            "model": self.model,
            "task": self.task.name,
            "options": dict(self.task.options),
            "method": self.method.name,
            "head": self.method.method.head,
            "settings": config.to_json(),
        }
        return PlannedRun(f"{self.name}--{config.learning_rate:g}--seed{seed}", config, asked)


@dataclass(frozen=True)
class Plan:
    """All the runs of an experiment."""

    name: str
    model: str
    tasks: tuple[PlannedTask, ...]
    methods: tuple[PlannedMethod, ...]
    settings: Mapping[str, Any]  # common ones, `seeds` among them
    notes: tuple[str, ...] = ()  # remarks of the author, for the report
    source: str = ""  # the file's text, which goes with the results

    @property
    def cells(self) -> tuple[Cell, ...]:
        """A cell for each method on each task, all methods of the first task first."""
        return tuple(self.cell(task, method) for task, method in product(self.tasks, self.methods))

    def cell(self, task: PlannedTask, method: PlannedMethod) -> Cell:
        """One method on one task."""
        return Cell(self.model, task, method, {**self.settings, **task.settings, **method.settings})
