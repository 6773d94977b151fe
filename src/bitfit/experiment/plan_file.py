"""Reads a plan from a TOML file, and says at once all that is wrong with it."""

import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from bitfit.backbone.heads import HeadKind, Pool
from bitfit.data.catalog import KNOWN
from bitfit.data.options import DataOptions
from bitfit.errors import RequestError, nearest
from bitfit.experiment.plan import Plan, PlannedMethod, PlannedTask
from bitfit.files import file_name
from bitfit.methods.method import Method
from bitfit.methods.selection import HeadMode
from bitfit.runtime.precision import Precision

# ---------------------------------------------------------------------- keys, and the kinds of their values


@dataclass(frozen=True)
class Kind:
    """A kind of value, in words and as a check."""

    words: str
    fits: Callable[[Any], bool]
    known: tuple[str, ...] = ()  # the only texts allowed, where there is such a list

    def problem(self, where: str, value: Any) -> str:
        """What to say of a value that does not fit."""
        hint = f". {nearest(value, self.known)}" if self.known and isinstance(value, str) else ""
        return f"{where}: expected {self.words}, found {value!r}{hint}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    """A list with something in it, of such values, none of them twice."""
    return isinstance(value, list) and bool(value) and all(map(fits, value)) and len(set(value)) == len(value)


def _one_of(names: tuple[str, ...]) -> Kind:
    return Kind("one of " + ", ".join(names), lambda value: value in names, names)


TEXT = Kind("a text", lambda value: isinstance(value, str) and bool(value.strip()))
BOTH = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE = Kind("a whole number", _is_whole)
NUMBER = Kind("a number", _is_number)
TEXTS = Kind("a list of texts", lambda value: _is_list(value, TEXT.fits))
TABLE = Kind("a table of settings", lambda value: isinstance(value, dict))
LIST = Kind("a list with a name or a table for each", lambda value: isinstance(value, list) and bool(value))
SEEDS = Kind("a list of whole numbers, none of them twice", lambda value: _is_list(value, _is_whole))
COLUMNS = Kind("a text, or a list of texts", lambda value: TEXT.fits(value) or _is_list(value, TEXT.fits))
RATES = Kind(
    "a number, or a list of numbers to choose from on validation, none of them twice",
    lambda value: _is_number(value) or _is_list(value, _is_number),
)

# How a run is trained: may stand in [settings], in a task or in a method.
SETTINGS: Mapping[str, Kind] = {
    "learning_rate": RATES,
    "seeds": SEEDS,
    "batch_size": WHOLE,
    "epochs": WHOLE,
    "schedule": _one_of(("linear", "constant")),
    "warmup": NUMBER,
    "clip": NUMBER,
    "weight_decay": NUMBER,
    "patience": WHOLE,
    "precision": _one_of(get_args(Precision)),
    "prefix_cache": BOTH,
    "head_start": _one_of(("probe", "frequencies", "random")),
    "balance": _one_of(("none", "weights")),
    "few_shot": _one_of(("on", "off")),
}
# What is read and how: a task's own.
DATA: Mapping[str, Kind] = {
    "text": TEXT,
    "text_pair": TEXT,
    "label": COLUMNS,
    "label_separator": TEXT,
    "tokens": TEXT,
    "tags": TEXT,
    "max_length": WHOLE,
    "train_size": WHOLE,
    "pool": _one_of(get_args(Pool)),
    "kind": _one_of(get_args(HeadKind)),
}
TASK: Mapping[str, Kind] = {"name": TEXT, "as": TEXT, **DATA, **SETTINGS}
METHOD: Mapping[str, Kind] = {"name": TEXT, "head": _one_of(get_args(HeadMode)), **SETTINGS}
PLAN: Mapping[str, Kind] = {
    "name": TEXT,
    "model": TEXT,
    "tasks": LIST,
    "methods": LIST,
    "seeds": SEEDS,
    "settings": TABLE,
    "notes": TEXTS,
}


# ---------------------------------------------------------------------- reading


def read_plan(path: Path) -> Plan:
    """The plan in a file."""
    try:
        source = path.read_text(encoding="utf-8")
        document = tomllib.loads(source)
    except OSError as error:
        raise RequestError(f"The plan '{path}' cannot be read: {error.strerror}. Expected a TOML file.") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise RequestError(f"The plan '{path}' is not TOML: {error}.") from error
    return plan_of(document, str(path), source)


def plan_of(document: Mapping[str, Any], where: str = "the plan", source: str = "") -> Plan:
    """The plan that a document describes; all that is wrong with it is reported at once."""
    problems: list[str] = []
    whole = _checked("", document, PLAN, ("name", "tasks", "methods", "seeds"), problems)
    common = {key: kind for key, kind in SETTINGS.items() if key != "seeds"}
    settings = _checked("settings", whole.get("settings", {}), common, (), problems)
    plan = Plan(
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
        raise RequestError("\n".join([f"{where} cannot be used:", *(f"  - {problem}" for problem in problems)]))
    return plan


def _entries(key: str, whole: Mapping[str, Any], keys: Mapping[str, Kind], problems: list[str]) -> list[dict[str, Any]]:
    """The tables of a list; a bare name stands for a table with that name alone."""
    tables = []
    for number, entry in enumerate(whole.get(key, []), start=1):
        where = f"{key}[{number}]"
        if not isinstance(entry, str | dict):
            problems.append(f"{where}: expected a name or a table, found {entry!r}")
            continue
        table = {"name": entry} if isinstance(entry, str) else entry
        tables.append(_checked(where, table, keys, ("name",), problems))
    return [entry for entry in tables if "name" in entry]


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
    plain = [file_name(entry.label) for entry in entries]
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


def _checked(
    where: str, table: Mapping[str, Any], keys: Mapping[str, Kind], needed: Collection[str], problems: list[str]
) -> dict[str, Any]:
    """The entries of a table that can be used; what is wrong with the others goes to `problems`."""
    at = f"{where}." if where else ""
    problems += [f"{at}{key}: no such key. {nearest(key, keys)}" for key in table if key not in keys]
    problems += [f"{at}{key}: expected {keys[key].words}, found nothing" for key in needed if key not in table]
    known = {key: value for key, value in table.items() if key in keys}
    problems += [keys[key].problem(f"{at}{key}", value) for key, value in known.items() if not keys[key].fits(value)]
    return {key: value for key, value in known.items() if keys[key].fits(value)}
