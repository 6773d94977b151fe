"""A plan: which methods are tried on which tasks, with which settings; read from a TOML file and checked whole.

It expands into cells (a task and a method), and each cell into runs (a learning rate and a seed). Knows nothing of how
a run is done or what came of it.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from bitfit.data.catalog import KNOWN
from bitfit.data.options import DataOptions
from bitfit.errors import RequestError, nearest
from bitfit.experiment.plan_keys import DATA, METHOD, PLAN, SETTINGS, TASK, Kind, checked
from bitfit.methods.method import Method
from bitfit.training.config import TrainConfig


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
        return f"{_plain(self.task.label)}--{_plain(self.method.label)}"

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
        own = {key: value for key, value in self.settings.items() if key not in ("learning_rate", "seeds")}
        rate = None if rate is None else float(rate)
        config = TrainConfig(learning_rate=rate, seed=seed, **own).settled(self.method.method)
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

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """The plan in a file."""
        try:
            source = path.read_text(encoding="utf-8")
            document = tomllib.loads(source)
        except OSError as error:
            raise RequestError(f"The plan '{path}' cannot be read: {error.strerror}. Expected a TOML file.") from error
        except ValueError as error:  # no UTF-8, or no TOML
            raise RequestError(f"The plan '{path}' is not TOML: {error}.") from error
        return cls.of(document, str(path), source)

    @classmethod
    def of(cls, document: Mapping[str, Any], place: str = "the plan", source: str = "") -> "Plan":
        """The plan that a document describes; all that is wrong with it is said at once."""
        problems: list[str] = []
        whole = checked("", document, PLAN, ("name", "tasks", "methods", "seeds"), problems)
        common = {key: kind for key, kind in SETTINGS.items() if key != "seeds"}
        settings = checked("settings", whole.get("settings", {}), common, (), problems)
        plan = cls(
            whole.get("name", ""),
            whole.get("model", "minilm"),
            tuple(_task(one) for one in _entries("tasks", whole, TASK, problems)),
            tuple(_methods(_entries("methods", whole, METHOD, problems), problems)),
            {**settings, "seeds": whole.get("seeds", [0])},
            tuple(whole.get("notes", ())),
            source,
        )
        problems += [*_name_problems(plan), *_value_problems(plan)]
        if problems:
            raise RequestError("\n".join([f"{place} cannot be used:", *(f"  - {problem}" for problem in problems)]))
        return plan


def _entries(key: str, whole: Mapping[str, Any], keys: Mapping[str, Kind], problems: list[str]) -> list[dict[str, Any]]:
    """The tables of a list; a bare name stands for a table with that name alone."""
    found = []
    for number, entry in enumerate(whole.get(key, []), start=1):
        place = f"{key}[{number}]"
        if not isinstance(entry, str | dict):
            problems.append(f"{place}: expected a name or a table, found {entry!r}")
            continue
        table = {"name": entry} if isinstance(entry, str) else entry
        found.append(checked(place, table, keys, ("name",), problems))
    return [entry for entry in found if "name" in entry]


def _task(entry: Mapping[str, Any]) -> PlannedTask:
    label = entry.get("as", entry["name"] if entry["name"] in KNOWN else Path(entry["name"]).stem)
    return PlannedTask(entry["name"], label, _only(entry, DATA), _only(entry, SETTINGS))


def _methods(entries: Sequence[Mapping[str, Any]], problems: list[str]) -> Iterator[PlannedMethod]:
    """Those that there are."""
    for entry in entries:
        try:
            yield PlannedMethod(Method.parse(entry["name"], entry.get("head", "full")), _only(entry, SETTINGS))
        except RequestError as error:
            problems.append(f"methods: {error}")


def _only(entry: Mapping[str, Any], keys: Mapping[str, Kind]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key in keys}


def _name_problems(plan: Plan) -> list[str]:
    """Tasks that do not exist, and tasks and methods that stand twice."""
    problems = [
        f"tasks: no task, file or folder named '{task.name}'. {nearest(task.name, KNOWN)}"
        for task in plan.tasks
        if task.name not in KNOWN and "/" not in task.name and not Path(task.name).exists()
    ]
    problems += [f"tasks: '{label}' stands twice; tell them apart with as = '...'" for label in _twice(plan.tasks)]
    return [*problems, *(f"methods: '{label}' stands twice" for label in _twice(plan.methods))]


def _twice(entries: Sequence[PlannedTask | PlannedMethod]) -> list[str]:
    """Labels that would share their files."""
    plain = [_plain(entry.label) for entry in entries]
    return [entry.label for i, entry in enumerate(entries) if plain[i] in plain[:i]]


def _value_problems(plan: Plan) -> list[str]:
    """Values of the right kind that cannot be, such as a batch size of 0."""
    problems: dict[str, None] = {}
    for task in plan.tasks:
        try:
            DataOptions(**task.options)
        except RequestError as error:
            problems[f"tasks, {task.label}: {error}"] = None
    for cell in plan.cells:
        try:
            _ = cell.runs
        except RequestError as error:
            problems[f"{cell.method.label} on {cell.task.label}: {error}"] = None
    return list(problems)


def _plain(text: str) -> str:
    """A label as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text).strip("-.")
