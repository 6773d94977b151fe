"""What a reader of the scores should know, such as chance and seeds that disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from bitfit.experiment.plan import PlannedMethod
from bitfit.experiment.results import Column, RateChoice, Results

SPREAD = 5.0  # points of standard deviation over seeds that are worth a remark
CORRELATIONS = ("matthews_correlation", "pearson", "spearman")
SURE = 2.0  # standard errors of a split's own sampling that a score must be above chance


def remarks(results: Results) -> list[str]:
    """All of them, each a sentence or two."""
    return [
        *results.plan.notes,
        *_of_chance(results),
        *_of_seeds(results),
        *_of_rates(results),
        *_of_dropout(results),
    ]


# ---------------------------------------------------------------------- chance


@dataclass(frozen=True)
class Chance:
    """What an answer that ignores the text scores on a split, in percent, and what is clearly more."""

    metric: str
    words: str
    clear: float

    @classmethod
    def maybe_of(cls, results: Results, column: Column) -> "Chance | None":
        """None where it is not known: no facts about the split, or a kind of task without such an answer."""
        facts = results.splits.get(column.task, {}).get(column.split)
        if facts is None or not facts.examples:
            return None
        if column.metric in CORRELATIONS:  # 1 / sqrt(n) is the standard error of a correlation of 0
            return cls(column.metric, f"no correlation, over {facts.examples:,}", 100 * SURE / sqrt(facts.examples))
        if facts.largest_class is not None:
            share = facts.largest_class
            clear = 100 * (share + SURE * sqrt(share * (1 - share) / facts.examples))
            return cls("accuracy", f"the largest class, {100 * share:.1f} % of {facts.examples:,}", clear)
        return None


def _of_chance(results: Results) -> list[str]:
    if results.cells and not results.splits:
        return ["There is no splits.json beside these runs: no score is compared with chance."]
    return [remark for column in results.columns if (remark := _on_column(results, column))]


def _on_column(results: Results, column: Column) -> str:
    """Methods of one task whose mean is not clear of chance."""
    chance = Chance.maybe_of(results, column)
    if chance is None:
        return ""
    means = {
        method.label: mean
        for method in results.plan.methods
        if (mean := results.maybe_get_mean(column, method.label, chance.metric)) is not None
    }
    low = {label: mean for label, mean in means.items() if mean <= chance.clear}
    if not low:
        return ""
    start = f"{column.name}, {column.split}: not clear of chance ({chance.words}; clear is above {chance.clear:.1f})"
    if len(low) == len(means):
        return f"{start} with any method. This column says nothing of which method is better."
    return f"{start}: " + ", ".join(f"`{label}` {mean:.1f}" for label, mean in low.items()) + "."


# ---------------------------------------------------------------------- seeds


def _of_seeds(results: Results) -> list[str]:
    cells = [
        f"{column.name} `{method.label}` " + ", ".join(f"{value:.1f}" for value in figure.values)
        for column in results.columns
        for method in results.plan.methods
        if (figure := results.maybe_get_figure(column, method.label)) is not None and (figure.std or 0.0) > SPREAD
    ]
    start = f"Seeds disagree (a standard deviation above {SPREAD:g} points), so that a mean stands for no run: "
    return [f"{start}{'; '.join(cells)}."] if cells else []


# ---------------------------------------------------------------------- learning rates


def _of_rates(results: Results) -> list[str]:
    if not results.rates:
        return []
    several = any(len(choice.tried) > 1 for choice in results.rates.values())
    none = [] if several else ["Each method ran with one learning rate; none was chosen among several."]
    remarks = [*none, *_numbers(results), *_same_split(results, several)]
    return [*remarks, *_edges(results.rates), *_missing(results.rates)]


def _numbers(results: Results) -> list[str]:
    """Tasks on which one method had more rates to choose from than another."""
    cells = []
    for task in results.plan.tasks:
        counts = {method: len(choice.tried) for (label, method), choice in results.rates.items() if label == task.label}
        if len(set(counts.values())) > 1:
            cells.append(f"{task.label} " + ", ".join(f"`{method}` {count}" for method, count in counts.items()))
    start = "Numbers of learning rates tried, where a longer list is an advantage: "
    return [f"{start}{'; '.join(cells)}."] if cells else []


def _same_split(results: Results, several: bool) -> list[str]:
    """Scores on the split that chose."""
    shared = [column.name for column in results.columns if column.split.startswith("validation")]
    if not shared:
        return []
    what = "the epoch and the learning rate" if several else "the epoch"
    return [f"Validation chose {what}, and is what is shown for {', '.join(shared)}: those scores are optimistic."]


def _edges(rates: Mapping[tuple[str, str], RateChoice]) -> list[str]:
    cells = [
        f"{task} `{method}` {choice.chosen:g} ({'highest' if choice.chosen == max(choice.tried) else 'lowest'} of "
        f"{len(choice.tried)})"
        for (task, method), choice in rates.items()
        if choice.at_edge
    ]
    return [f"At the edge of its list, so that a better rate may lie beyond: {'; '.join(cells)}."] if cells else []


def _missing(rates: Mapping[tuple[str, str], RateChoice]) -> list[str]:
    cells = [
        f"{task} `{method}` {_listed(choice.missing)}" for (task, method), choice in rates.items() if choice.missing
    ]
    return [f"Rates of the plan without a finished run: {'; '.join(cells)}."] if cells else []


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


# ---------------------------------------------------------------------- dropout


def _of_dropout(results: Results) -> list[str]:
    """Methods that ran with the prefix cache, beside others that did not."""
    cached: list[str] = []
    others: list[str] = []
    for method in results.plan.methods:
        settings = [run["settings"] for task in results.plan.tasks for run in results.of(task, method)]
        if settings:
            (cached if any(_is_cached(one, method) for one in settings) else others).append(f"`{method.label}`")
    if not cached or not others:
        return []
    return [
        f"With the prefix cache, so without dropout in the layers below all that trains: {', '.join(cached)}. The "
        "others had dropout in every layer. `prefix_cache = false` in the plan treats all alike."
    ]


def _is_cached(settings: Mapping[str, Any], method: PlannedMethod) -> bool:
    asked = settings.get("prefix_cache")
    return method.method.head_alone if asked is None else bool(asked)
