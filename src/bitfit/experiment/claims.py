"""The paper's claims held against the runs of a plan: holds, does not hold, or cannot be told, with the figures.

A difference counts where it exceeds twice its standard error. Knows nothing of files or of how tables look.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bitfit.experiment.published import published
from bitfit.experiment.results import (
    Column,
    Difference,
    Figure,
    Results,
    Verdict,
    difference,
    figure,
    main_score,
    mean_over,
)
from bitfit.experiment.store import Document

SUBSETS = ("bitfit", "bitfit[b_m2,b_q]", "bitfit[b_m2]", "bitfit[b_q]", "frozen")
RANDOM = ("bitfit", "random-rows-columns", "random-uniform")
MOST_CHANGED = ("b_q", "b_m2")
KEY = "b_k"


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, and what the runs say of it."""

    name: str
    text: str
    verdict: Verdict
    figures: Mapping[str, Figure] = field(default_factory=dict)
    differences: Sequence[Difference] = ()  # what decides
    by_task: Mapping[str, Sequence[Difference]] = field(default_factory=dict)  # the same on each task
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The claim as plain values."""
        return {
            "claim": self.name,
            "text": self.text,
            "verdict": self.verdict,
            "figures": {name: one.to_json() for name, one in self.figures.items()},
            "differences": [one.to_json() for one in self.differences],
            "by_task": {task: [one.to_json() for one in found] for task, found in self.by_task.items()},
            "notes": list(self.notes),
        }


def claims(results: Results) -> list[Claim]:
    """Every claim that runs of a plan can be held against."""
    return [test(name, published()["claims"][name], results) for name, test in TESTS.items()]


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """A chain breaks with one link; it holds where all do."""
    found = list(verdicts)
    if "does not hold" in found:
        return "does not hold"
    return "holds" if found and set(found) == {"holds"} else "cannot be told"


def _subset_order(name: str, text: str, results: Results) -> Claim:
    return _order(name, text, results, SUBSETS)


def _random_worse(name: str, text: str, results: Results) -> Claim:
    return _order(name, text, results, RANDOM)


def _order(name: str, text: str, results: Results, methods: Sequence[str]) -> Claim:
    """Methods in an order, on the average over tasks."""
    figures = _known({method: figure(results.averages(method)) for method in methods})
    missing = [method for method in methods if method not in figures]
    pairs = [*pairwise(methods), (methods[0], methods[-1])]
    apart = _differences(pairs, figures)
    columns = {column.name: column for column in results.columns}
    by_task = {task: _differences(pairs, _on(results, column, methods)) for task, column in columns.items()}
    verdict: Verdict = "cannot be told" if missing else together(one.verdict for one in apart)
    notes = [f"no average for {', '.join(missing)}"] if missing else [_means(apart)]
    return Claim(name, text, verdict, figures, apart, by_task, [*notes, *_broken(by_task)])


def _means(apart: Sequence[Difference]) -> str:
    wrong = [f"{one.of} is not above {one.over}" for one in apart if one.mean <= 0]
    return f"by the means alone: {'; '.join(wrong)}" if wrong else "the means alone are in this order"


def _broken(by_task: Mapping[str, Sequence[Difference]]) -> list[str]:
    """Single tasks that go clearly against the order."""
    return [
        f"{task} goes against it: {one.of} is {-one.mean:.1f} below {one.over}"
        for task, found in by_task.items()
        for one in found
        if one.verdict == "does not hold"
    ]


def _on(results: Results, column: Column, methods: Sequence[str]) -> dict[str, Figure]:
    return _known({method: results.maybe_get_figure(column, method) for method in methods})


def _known(figures: Mapping[str, Figure | None]) -> dict[str, Figure]:
    return {name: one for name, one in figures.items() if one is not None}


def _differences(pairs: Sequence[tuple[str, str]], figures: Mapping[str, Figure]) -> list[Difference]:
    return [difference(pair, figures[pair[0]], figures[pair[1]]) for pair in pairs if set(pair) <= set(figures)]


# ---------------------------------------------------------------------- train minus validation


def _gap(name: str, text: str, results: Results) -> Claim:
    """Full fine-tuning's gap above BitFit's."""
    columns = [column for column in results.columns if column.name != "mnli_mm"]
    by_task = {column.name: {m: _gaps(results, column, m) for m in ("full", "bitfit")} for column in columns}
    averages = {
        method: figure(mean_over({task: gaps[method] for task, gaps in by_task.items()}, results.plan))
        for method in ("full", "bitfit")
    }
    figures = _known(averages)
    pair = [("full", "bitfit")]
    apart = _differences(pair, figures)
    single = {
        task: _differences(pair, _known({m: figure(own) for m, own in gaps.items()})) for task, gaps in by_task.items()
    }
    notes = ["train is scored while it trains, with dropout on: a gap can be below 0"]
    if not apart:
        notes.append("both methods are needed, with scores on train, on every task")
    return Claim(name, text, together(one.verdict for one in apart), figures, apart, single, notes)


def _gaps(results: Results, column: Column, method: str) -> dict[int, float]:
    """Train minus validation in percent, by seed."""
    runs = results.cells.get((column.task, method), ())
    return {
        run["settings"]["seed"]: 100 * (main_score(run, "train")[1] - main_score(run, "validation")[1])
        for run in runs
        if {"train", "validation"} <= set(run["scores"])
    }


# ---------------------------------------------------------------------- change of terms


def _changed(results: Results) -> list[Mapping[str, float]]:
    """For each run of plain bitfit: the mean change of each symbol over layers."""
    return [
        {symbol: sum(layers) / len(layers) for symbol, layers in run["changes"].items() if symbol.startswith("b_")}
        for run in _bitfit(results)
        if run["changes"]
    ]


def _bitfit(results: Results) -> list[Document]:
    return [run for (_, method), runs in results.cells.items() if method == "bitfit" for run in runs]


def _by_symbol(runs: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """Each symbol's change over runs, the largest first."""
    symbols = dict.fromkeys(symbol for run in runs for symbol in run)
    found = {symbol: Figure(tuple(run[symbol] for run in runs if symbol in run)) for symbol in symbols}
    return dict(sorted(found.items(), key=lambda pair: -pair[1].mean))


def _key_bias(name: str, text: str, results: Results) -> Claim:
    """Is the change of b_k exactly 0?"""
    found = _by_symbol(_changed(results)).get(KEY)
    if found is None:
        return Claim(name, text, "cannot be told", notes=["no bitfit run with a b_k"])
    still = max(found.values) == 0
    note = f"{len(found.values)} bitfit runs; bitfit itself keeps b_k still wherever its gradient is exactly zero"
    return Claim(name, text, "holds" if still else "does not hold", {KEY: found}, notes=[note])


def _largest_change(name: str, text: str, results: Results) -> Claim:
    """Do b_q and b_m2 both change more than any other term?"""
    runs = _changed(results)
    figures = _by_symbol(runs)
    if not runs or not set(MOST_CHANGED) < set(figures):
        return Claim(name, text, "cannot be told", notes=["no bitfit run with b_q, b_m2 and others"])
    ahead = Figure(
        tuple(
            min(run[symbol] for symbol in MOST_CHANGED)
            - max(change for symbol, change in run.items() if symbol not in MOST_CHANGED)
            for run in runs
        )
    )
    apart = Difference("the lesser of b_q and b_m2", "the largest other", ahead.mean, ahead.error)
    ranks = [f"{symbol} is number {list(figures).index(symbol) + 1} of {len(figures)}" for symbol in MOST_CHANGED]
    return Claim(
        name, text, apart.verdict, figures, [apart], notes=[f"over {len(runs)} bitfit runs: {', '.join(ranks)}"]
    )


TESTS: Mapping[str, Callable[[str, str, Results], Claim]] = {
    "subset_order": _subset_order,
    "random_worse": _random_worse,
    "generalization_gap": _gap,
    "key_bias": _key_bias,
    "largest_change": _largest_change,
}
