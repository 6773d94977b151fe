"""The report of a folder of runs: scores beside the published ones, and the claims."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bitfit.data.examples import measured_json, measured_text
from bitfit.experiment.claims import Claim, claims
from bitfit.experiment.plan import PlannedMethod, PlannedTask
from bitfit.experiment.published import Line, average, lines
from bitfit.experiment.remarks import remarks
from bitfit.experiment.results import Column, RateChoice, Results, figure
from bitfit.experiment.significance import LEVEL, Difference, Figure
from bitfit.experiment.store import Document, Store

MODELS = {"bert-base": "BERT-base", "bert-large": "BERT-large"}  # of the tables that are compared with
RULE = (
    f"A pair is told above or below at the level {LEVEL:g}, two-sided: by Welch's t test over seeds (for the change of "
    "terms: by Student's, over tasks), with Holm's correction over the pairs of a claim. Pairs on single tasks are a "
    "family of their own. A claim holds where all its pairs are above; one pair below and it does not hold."
)
SIGNIFICANT = (".3g", ".2g")  # a claim's figures may be as small as a bias's change


def report(folder: Path) -> dict[str, Any]:
    """What a folder of runs says, as plain values."""
    results = Results.read(Store(folder))
    return {
        "name": results.plan.name,
        "model": results.plan.model,
        "runs": {"finished": results.finished, "planned": results.planned},
        "methods": [_method(results, method) for method in results.plan.methods],
        "published": [
            _published(results, line)
            for method in results.plan.methods
            if (line := maybe_get_published(method.label)) is not None
        ],
        "remarks": remarks(results),
        "test": {"level": LEVEL, "test": "Welch's t, two-sided", "correction": "Holm, over the pairs of a claim"},
        "claims": [claim.to_json() for claim in claims(results)],
    }


def _method(results: Results, method: PlannedMethod) -> dict[str, Any]:
    """One method's figures on every task."""
    runs = [run for task in results.plan.tasks for run in results.of(task, method)]
    mean = figure(results.averages(method.label))
    return {
        "method": method.label,
        "trainable": sorted({run["trainable"] for run in runs}),  # heads differ between tasks
        "percent": _share(runs),
        "tasks": {task.label: _cell(results, task, method) for task in results.plan.tasks},
        "average": mean and mean.to_json(),
    }


def _share(runs: Sequence[Document]) -> float | None:
    """The trained share in percent, the head's part of it too; the mean over tasks."""
    shares = figure(100 * run["trainable"] / run["parameters"] for run in runs)
    return None if shares is None else shares.mean


def _cell(results: Results, task: PlannedTask, method: PlannedMethod) -> dict[str, Any] | None:
    """All scores of one cell, each over its seeds."""
    runs = results.of(task, method)
    if not runs:
        return None
    splits = dict.fromkeys(split for run in runs for split in run["scores"])
    return {
        "learning_rates": results.rates[task.label, method.label].to_json(),
        "seeds": [run["settings"]["seed"] for run in runs],
        "scores": {split: _scores(runs, split) for split in splits},
        "measured_on": measured_json({name: measured_text(of) for name, of in runs[0]["measured_on"].items()}),
    }


def _scores(runs: Sequence[Document], split: str) -> dict[str, Any]:
    by_run = [run["scores"][split] for run in runs if split in run["scores"]]
    return {metric: Figure(tuple(100 * scores[metric] for scores in by_run)).to_json() for metric in by_run[0]}


def maybe_get_published(method: str) -> Line | None:
    """The paper's line of a method: of its table of subsets, else of its first table, validation before test."""
    candidates = [line for table in ("table3", "table1") for line in lines(table) if line.method == method]
    return min(candidates, key=lambda line: (line.table != "table3", line.split != "validation"), default=None)


def _published(results: Results, line: Line) -> dict[str, Any]:
    """A published line, cut down to the tasks that were run, with its own average over them."""
    names = [column.name for column in results.columns if column.name in line.scores]
    scores = {name: line.scores[name] for name in names}
    whole = len(names) == len(results.columns) and names
    return {
        "method": line.method,
        "model": line.model,
        "split": line.split,
        "source": line.source,
        "table": line.table,
        "percent": line.percent,
        "scores": {name: {"mean": score.mean, "std": score.std} for name, score in scores.items()},
        "average": average({name: score.mean for name, score in scores.items()}) if whole else None,
    }


# ---------------------------------------------------------------------- Markdown


def markdown(folder: Path) -> str:
    """The same for a reader."""
    results = Results.read(Store(folder))
    parts = [
        _head(results),
        _table(results),
        _remarks(results),
        _every_score(results),
        _rates(results),
        "## The paper's claims",
        RULE,
    ]
    parts += [_claim(claim) for claim in claims(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Results) -> str:
    plan = results.plan
    missing = results.planned - results.finished
    return "\n".join(
        [
            f"# {plan.name}",
            "",
            f"{results.finished} of {results.planned} runs{f'; {missing} are missing' if missing else ''}. "
            f"Model: {plan.model}. Percent, mean ± standard deviation over seeds. A validation score is the best "
            "epoch's, chosen on that same split; a test was read once, after every choice.",
            "*Lines in italics are published figures of another model*: they show the shape to expect, not a score to "
            "reach.",
        ]
    )


def _table(results: Results) -> str:
    """Methods down, tasks across; under each method what was published of it."""
    columns = results.columns
    if not columns:
        return "There are no runs yet."
    several = len(results.plan.tasks) > 1
    heads = [f"{column.name}<br>{column.split}, {column.metric}" for column in columns]
    lines = [_line("method", "trained", *heads, *(["average"] if several else []))]
    lines.append(_line("---", *["---:"] * (1 + len(columns) + several)))
    for method in results.plan.methods:
        lines.append(_own_line(results, columns, method, several))
        line = maybe_get_published(method.label)
        if line is not None and any(column.name in line.scores for column in columns):
            lines.append(_published_line(results, columns, line, several))
    return "\n".join(lines)


def _own_line(results: Results, columns: Sequence[Column], method: PlannedMethod, several: bool) -> str:
    runs = [run for task in results.plan.tasks for run in results.of(task, method)]
    share = _share(runs)
    cells = [_shown(results.maybe_get_figure(column, method.label)) for column in columns]
    mean = [_shown(figure(results.averages(method.label)))] if several else []
    return _line(f"`{method.label}`", "-" if share is None else f"{share:.2f} %", *cells, *mean)


def _published_line(results: Results, columns: Sequence[Column], line: Line, several: bool) -> str:
    published = _published(results, line)
    name = (
        f"{MODELS.get(line.model, line.model)}, {line.split}, {'the paper' if line.source == 'paper' else line.source}"
    )
    cells = [_plus(**published["scores"][c.name]) if c.name in published["scores"] else "-" for c in columns]
    mean = ([f"{published['average']:.1f}"] if published["average"] is not None else ["-"]) if several else []
    return _line(*(f"*{text}*" if text != "-" else text for text in (name, f"{line.percent} %", *cells, *mean)))


def _every_score(results: Results) -> str:
    """Each cell's scores with all metrics, and what they were measured on."""
    lines = [_line("task", "method", "learning rate", "seeds", "scores"), _line("---", "---", "---:", "---:", "---")]
    for task in results.plan.tasks:
        for method in results.plan.methods:
            scored = _cell(results, task, method)
            if scored is not None:
                rate, seeds = f"{scored['learning_rates']['chosen']:g}", str(len(scored["seeds"]))
                lines.append(_line(task.label, f"`{method.label}`", rate, seeds, _all(scored)))
    return "\n".join(["## Every score", "", *lines]) if len(lines) > 2 else ""


def _remarks(results: Results) -> str:
    return "\n".join(["## Remarks", "", *(f"- {remark}" for remark in remarks(results))]) if results.cells else ""


def _rates(results: Results) -> str:
    """Every rate that was tried, where there were several; the chosen one is bold."""
    if all(len(choice.tried) == 1 for choice in results.rates.values()):
        return ""
    metrics = {column.task: column.metric for column in results.columns}
    lines = [
        _line(task, f"`{method}`", _tried(choice), metrics[task]) for (task, method), choice in results.rates.items()
    ]
    head = [_line("task", "method", "learning rate: score on validation", "metric"), _line("---", "---", "---", "---")]
    note = "The rate with the best mean over seeds on validation is the one that the other tables show, in bold here."
    return "\n".join(["## Learning rates", "", note, "", *head, *lines])


def _tried(choice: RateChoice) -> str:
    told = {rate: f"{rate:g}: {_plus(figure.mean, figure.std)}" for rate, figure in choice.tried.items()}
    return ", ".join(f"**{text}**" if rate == choice.chosen else text for rate, text in told.items())


def _all(scored: Mapping[str, Any]) -> str:
    parts = []
    for split, scores in scored["scores"].items():
        if split != "train":
            told = ", ".join(f"{metric} {_plus(one['mean'], one['std'])}" for metric, one in scores.items())
            parts.append(f"{split} ({measured_text(scored['measured_on'].get(split, 'all'))}): {told}")
    return "; ".join(parts)


def _claim(claim: Claim) -> str:
    lines = [f"### {claim.name}: {claim.verdict}", "", f"The paper: {claim.text}.", ""]
    if claim.figures:
        shown = ", ".join(f"`{name}` {_plus(one.mean, one.std, SIGNIFICANT)}" for name, one in claim.figures.items())
        lines.append(f"- figures: {shown}")
    lines += [f"- {_difference(one)}" for one in claim.differences]
    for task, differences in claim.by_task.items():
        if differences:
            lines.append(f"- on {task}: " + "; ".join(_difference(one) for one in differences))
    return "\n".join([*lines, *(f"- {note}" for note in claim.notes)])


def _difference(one: Difference) -> str:
    word = {"holds": "above", "does not hold": "below"}.get(one.verdict, "cannot be told")
    return f"{one.of} over {one.over}: {one.mean:+.3g} ({_test(one)}): {word}"


def _test(one: Difference) -> str:
    if one.test is None:
        return one.untested
    test = one.test
    return f"t {test.t:.2f}, df {test.freedom:.1f}, p {_p(test.p)}, corrected {_p(test.corrected)}"


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _shown(one: Figure | None) -> str:
    return "-" if one is None else _plus(one.mean, one.std)


def _plus(mean: float, std: float | None, forms: tuple[str, str] = (".1f", ".1f")) -> str:
    return f"{mean:{forms[0]}}" if std is None else f"{mean:{forms[0]}} ± {std:{forms[1]}}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
