"""The paper's claims checked against runs: each holds, does not hold, or cannot be told.

The pairs that a claim compares on the average are one family of tests, its pairs on single tasks another.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from statistics import fmean
from typing import Any

from bitfit.experiment.published import published
from bitfit.experiment.results import Column, Results, figure, main_score, mean_over
from bitfit.experiment.significance import Difference, Figure, Verdict, compare, difference, holm, paired

# The methods that the paper's sentences are about: data of the claims, which no code here tells apart.
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
            "by_task": {task: [one.to_json() for one in outcomes] for task, outcomes in self.by_task.items()},
            "notes": list(self.notes),
        }


def claims(results: Results) -> list[Claim]:
    """Every claim that the runs of a plan can be checked against."""
    return [test(name, published()["claims"][name], results) for name, test in TESTS.items()]


def of_all(verdicts: Iterable[Verdict]) -> Verdict:
    """A chain breaks with one link; it holds where all do."""
    seen = list(verdicts)
    if "does not hold" in seen:
        return "does not hold"
    return "holds" if seen and set(seen) == {"holds"} else "cannot be told"


def _subset_order(name: str, text: str, results: Results) -> Claim:
    return _order(name, text, results, SUBSETS)


def _random_worse(name: str, text: str, results: Results) -> Claim:
    return _order(name, text, results, RANDOM)


def _order(name: str, text: str, results: Results, methods: Sequence[str]) -> Claim:
    """Methods in an order, on the average over tasks."""
    figures = _known({method: figure(results.averages(method)) for method in methods})
    missing = [method for method in methods if method not in figures]
    pairs = [*pairwise(methods), (methods[0], methods[-1])]
    differences = compare(pairs, figures)
    by_task = _on_each_task(pairs, {column.name: _on(results, column, methods) for column in results.columns})
    verdict: Verdict = "cannot be told" if missing else of_all(one.verdict for one in differences)
    notes = [f"no average for {', '.join(missing)}"] if missing else [_means(differences)]
    return Claim(name, text, verdict, figures, differences, by_task, [*notes, *_broken(by_task)])


def _means(differences: Sequence[Difference]) -> str:
    wrong = [f"{one.of} is not above {one.over}" for one in differences if one.mean <= 0]
    return f"by the means alone: {'; '.join(wrong)}" if wrong else "the means alone are in this order"


def _broken(by_task: Mapping[str, Sequence[Difference]]) -> list[str]:
    """Single tasks that go clearly against the order."""
    return [
        f"{task} goes against it: {one.of} is {-one.mean:.1f} below {one.over}"
        for task, outcomes in by_task.items()
        for one in outcomes
        if one.verdict == "does not hold"
    ]


def _on(results: Results, column: Column, methods: Sequence[str]) -> dict[str, Figure]:
    return _known({method: results.maybe_get_figure(column, method) for method in methods})


def _known(figures: Mapping[str, Figure | None]) -> dict[str, Figure]:
    return {name: one for name, one in figures.items() if one is not None}


def _on_each_task(
    pairs: Sequence[tuple[str, str]], figures: Mapping[str, Mapping[str, Figure]]
) -> dict[str, list[Difference]]:
    """The pairs on single tasks, all of them corrected as one family."""
    asked = [
        (task, difference(pair, known[pair[0]], known[pair[1]]))
        for task, known in figures.items()
        for pair in pairs
        if set(pair) <= set(known)
    ]
    by_task: dict[str, list[Difference]] = {task: [] for task in figures}
    for (task, _), corrected in zip(asked, holm([one for _, one in asked]), strict=True):
        by_task[task].append(corrected)
    return by_task


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
    differences = compare(pair, figures)
    single = _on_each_task(
        pair, {task: _known({m: figure(gap) for m, gap in gaps.items()}) for task, gaps in by_task.items()}
    )
    notes = ["train is scored while it trains, with dropout on: a gap can be below 0"]
    if not differences:
        notes.append("both methods are needed, with scores on train, on every task")
    return Claim(name, text, of_all(one.verdict for one in differences), figures, differences, single, notes)


def _gaps(results: Results, column: Column, method: str) -> dict[int, float]:
    """Train minus validation in percent, by seed."""
    runs = results.cells.get((column.task, method), ())
    return {
        run["settings"]["seed"]: 100 * (main_score(run, "train")[1] - main_score(run, "validation")[1])
        for run in runs
        if {"train", "validation"} <= set(run["scores"])
    }


# ---------------------------------------------------------------------- change of terms


def _key_bias(name: str, text: str, results: Results) -> Claim:
    """Is the change of b_k exactly 0?"""
    runs = [change for changes in _changes(results).values() for change in changes if KEY in change]
    if not runs:
        return Claim(name, text, "cannot be told", notes=["no bitfit run with a b_k"])
    change = Figure(tuple(run[KEY] for run in runs))
    note = f"{len(runs)} bitfit runs; bitfit itself keeps b_k unchanged wherever its gradient is exactly zero"
    return Claim(name, text, "holds" if max(change.values) == 0 else "does not hold", {KEY: change}, notes=[note])


def _largest_change(name: str, text: str, results: Results) -> Claim:
    """Do b_q and b_m2 both change more than any other term?

    Seeds of one task move the terms alike, so a task is one observation: its mean over seeds. With one task alone its
    seeds are the observations. More steps or a higher rate move all terms further, so a difference is a share of the
    observation's mean change. A term that never moves (b_k) is compared with nothing.
    """
    by_task = _changes(results)
    seeds_alone = len(by_task) == 1
    observed = [run for runs in by_task.values() for run in (runs if seeds_alone else [_mean_change(runs)])]
    figures = _by_symbol(observed)
    others = [symbol for symbol, change in figures.items() if symbol not in MOST_CHANGED and any(change.values)]
    if not others or not set(MOST_CHANGED) < set(figures):
        return Claim(name, text, "cannot be told", notes=["no bitfit run with b_q, b_m2 and others"])
    pairs = list(product(MOST_CHANGED, others))
    differences = holm(
        [paired(pair, [_share(run, *pair) for run in observed if set(pair) <= set(run)]) for pair in pairs]
    )
    ranks = [f"{symbol} is number {list(figures).index(symbol) + 1} of {len(figures)}" for symbol in MOST_CHANGED]
    unit = f"over {len(observed)} {'seeds of one task' if seeds_alone else 'tasks'}: {', '.join(ranks)}"
    notes = [unit, "differences are shares of the mean change of all terms"]
    return Claim(name, text, of_all(one.verdict for one in differences), figures, differences, notes=notes)


def _share(changes: Mapping[str, float], one: str, other: str) -> float:
    return (changes[one] - changes[other]) / fmean(changes.values())


def _changes(results: Results) -> dict[str, list[Mapping[str, float]]]:
    """By task, for each run of plain bitfit: the mean change of each symbol over layers."""
    by_task: dict[str, list[Mapping[str, float]]] = {}
    for (task, method), runs in results.cells.items():
        for run in runs if method == SUBSETS[0] else ():
            if run["changes"]:
                symbols = {
                    symbol: fmean(layers) for symbol, layers in run["changes"].items() if symbol.startswith("b_")
                }
                by_task.setdefault(task, []).append(symbols)
    return by_task


def _mean_change(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {symbol: change.mean for symbol, change in _by_symbol(runs).items()}


def _by_symbol(runs: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """Each symbol's change, the largest first."""
    symbols = dict.fromkeys(symbol for run in runs for symbol in run)
    figures = {symbol: Figure(tuple(run[symbol] for run in runs if symbol in run)) for symbol in symbols}
    return dict(sorted(figures.items(), key=lambda pair: -pair[1].mean))


TESTS: Mapping[str, Callable[[str, str, Results], Claim]] = {
    "subset_order": _subset_order,
    "random_worse": _random_worse,
    "generalization_gap": _gap,
    "key_bias": _key_bias,
    "largest_change": _largest_change,
}
