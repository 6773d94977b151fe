"""The figures of the paper and of two later reports, as typed lines.

The numbers live in published.toml beside this file and are never edited to fit a result.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

TABLES = ("table1", "table2", "table3")

# Both halves of MNLI count as one task in every average of the paper.
_MNLI = ("mnli_m", "mnli_mm")


@dataclass(frozen=True)
class Score:
    """One printed figure in percent, with its standard deviation where the paper gives one."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class Line:
    """One line of a table: a method on a model over the GLUE tasks."""

    table: str
    method: str
    model: str
    split: str
    source: str  # where the paper took it from; "paper" for its own runs
    percent: float  # of the model's parameters that train
    scores: Mapping[str, Score]
    average: float  # as printed

    @classmethod
    def from_toml(cls, table: str, line: Mapping[str, Any]) -> "Line":
        """A line of one table, with what its caption says of all its lines filled in."""
        default_model = {"table1": "bert-large", "table3": "bert-base"}.get(table, "")
        return cls(
            table,
            line["method"],
            line.get("model", default_model),
            line.get("split", "validation"),
            line.get("source", "paper"),
            line["percent"],
            {task: _score(value) for task, value in line["scores"].items()},
            line["average"],
        )


def _score(value: float | list[float]) -> Score:
    return Score(*value) if isinstance(value, list) else Score(value)


@cache
def published() -> Mapping[str, Any]:
    """The whole document: metrics, notation, learning rates, claims and tables, as written."""
    text = files("bitfit.experiment").joinpath("published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def lines(table: str) -> tuple[Line, ...]:
    """The lines of one of TABLES, in the printed order."""
    return tuple(Line.from_toml(table, line) for line in published()[table])


def average(scores: Mapping[str, float]) -> float:
    """The mean over tasks, with MNLI matched and mismatched counted once as their own mean."""
    values = [value for task, value in scores.items() if task not in _MNLI]
    mnli = [scores[task] for task in _MNLI if task in scores]
    if mnli:
        values.append(fmean(mnli))
    return fmean(values)
