"""What came of a plan: the rate chosen on validation, and scores with their spread."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bitfit.data.task import LESS_IS_BETTER
from bitfit.experiment.plan import Plan, PlannedMethod, PlannedTask
from bitfit.experiment.published import average
from bitfit.experiment.significance import Figure
from bitfit.experiment.store import Document, SplitFacts, Store

# A task with two parts that the paper reports apart: split -> what the paper calls its figure.
PARTS = {"mnli": {"validation": "mnli_m", "validation_mismatched": "mnli_mm"}}


@dataclass(frozen=True)
class RateChoice:
    """The learning rates that a cell tried, in ascending order, and the one that its validation scores chose."""

    tried: Mapping[float, Figure]  # validation scores in percent, over the seeds that finished
    chosen: float
    missing: tuple[float, ...] = ()  # planned, without a finished run

    @property
    def at_edge(self) -> bool:
        """Is the best rate the lowest or the highest of several? A better one may lie beyond it."""
        return len(self.tried) > 1 and self.chosen in (min(self.tried), max(self.tried))

    def to_json(self) -> dict[str, Any]:
        """The choice as plain values."""
        tried = [{"learning_rate": rate, **figure.to_json()} for rate, figure in self.tried.items()]
        return {"chosen": self.chosen, "at_edge": self.at_edge, "tried": tried, "missing": list(self.missing)}

    @classmethod
    def of(cls, documents: Sequence[Document], planned: Iterable[float]) -> "RateChoice":
        """The choice among the rates that have runs: a rate that lacks a seed's run comes after those that do not."""
        by_rate: dict[float, list[float]] = {}
        sign = 1.0
        for document in documents:
            metric, score = main_score(document, "validation")
            sign = -1.0 if metric in LESS_IS_BETTER else 1.0
            by_rate.setdefault(document["settings"]["learning_rate"], []).append(100 * score)
        chosen = max(by_rate, key=lambda rate: (len(by_rate[rate]), sign * fmean(by_rate[rate])))
        tried = {rate: Figure(tuple(by_rate[rate])) for rate in sorted(by_rate)}
        return cls(tried, chosen, tuple(sorted(set(planned) - set(by_rate))))


def main_score(document: Document, split: str) -> tuple[str, float]:
    """The task's own metric on a split: the first one of its scores."""
    metric, value = next(iter(document["scores"][split].items()))
    return metric, float(value)


@dataclass(frozen=True)
class Column:
    """One figure of a task: what was measured on which split."""

    name: str  # the paper's, where it has one
    task: str  # the task's label
    split: str
    metric: str


@dataclass(frozen=True)
class Results:
    """The chosen runs of a plan, by cell: the labels of a task and a method."""

    plan: Plan
    cells: Mapping[tuple[str, str], Sequence[Document]]  # runs of the chosen rate
    rates: Mapping[tuple[str, str], RateChoice]  # of every cell with a run
    splits: Mapping[str, Mapping[str, SplitFacts]]  # of a task by its label, where they are known
    finished: int  # runs whose file is there
    planned: int

    @classmethod
    def read(cls, store: Store) -> "Results":
        """What a folder holds of the plan beside it."""
        plan = store.plan()
        cells, rates, finished = {}, {}, 0
        for cell in plan.cells:
            labels, documents = (cell.task.label, cell.method.label), store.documents(cell)
            finished += len(documents)
            if documents:
                rates[labels] = choice = RateChoice.of(documents, cell.rates)
                cells[labels] = [one for one in documents if one["settings"]["learning_rate"] == choice.chosen]
        return cls(plan, cells, rates, store.splits(), finished, sum(len(cell.runs) for cell in plan.cells))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The figures of every task that has a run: its labelled test, else its validation."""
        return tuple(column for task in self.plan.tasks for column in self._columns(task))

    def _columns(self, task: PlannedTask) -> list[Column]:
        runs = [run for method in self.plan.methods for run in self.of(task, method)]
        if not runs:
            return []
        splits = dict.fromkeys(split for run in runs for split in run["scores"])
        parts = PARTS.get(task.label, {}) or {"test" if "test" in splits else "validation": task.label}
        columns = []
        for split, name in parts.items():
            metric = next((main_score(run, split)[0] for run in runs if split in run["scores"]), None)
            if metric:
                columns.append(Column(name, task.label, split, metric))
        return columns

    def of(self, task: PlannedTask, method: PlannedMethod) -> Sequence[Document]:
        """The chosen runs of a cell."""
        return self.cells.get((task.label, method.label), ())

    def by_seed(self, column: Column, method: str) -> dict[int, float]:
        """A method's scores in percent, by seed."""
        runs = self.cells.get((column.task, method), ())
        return {
            run["settings"]["seed"]: 100 * main_score(run, column.split)[1]
            for run in runs
            if column.split in run["scores"]
        }

    def maybe_get_figure(self, column: Column, method: str) -> Figure | None:
        """A method's score in percent; None where there is no run."""
        return figure(self.by_seed(column, method))

    def maybe_get_mean(self, column: Column, method: str, metric: str) -> float | None:
        """A method's mean of one metric in percent on a column's split; None where there is none."""
        runs = self.cells.get((column.task, method), ())
        scores = [run["scores"].get(column.split, {}).get(metric) for run in runs]
        known = [100 * score for score in scores if score is not None]
        return fmean(known) if known else None

    def averages(self, method: str) -> dict[int, float]:
        """A method's average over all tasks of the plan, by seed, MNLI counted once; empty where a task lacks."""
        return mean_over({column.name: self.by_seed(column, method) for column in self.columns}, self.plan)


def mean_over(by_column: Mapping[str, Mapping[int, float]], plan: Plan) -> dict[int, float]:
    """The mean over columns for each seed that all of them have; nothing where a task of the plan has no column."""
    covered = {name if name not in ("mnli_m", "mnli_mm") else "mnli" for name in by_column}
    if not by_column or covered < {task.label for task in plan.tasks}:
        return {}
    seeds = set.intersection(*(set(values) for values in by_column.values()))
    return {seed: average({name: values[seed] for name, values in by_column.items()}) for seed in sorted(seeds)}


def figure(values: Mapping[int, float] | Iterable[float]) -> Figure | None:
    """The figure of some values; None where there are none."""
    listed = tuple(values.values() if isinstance(values, Mapping) else values)
    return Figure(listed) if listed else None
