"""Sections of what a delta's file says: findings, scores, epochs, data, changes, settings, use."""

import shlex
from collections.abc import Sequence
from typing import Any

from bitfit.data.task import LESS_IS_BETTER, Task
from bitfit.delta.changes import Change, by_layer
from bitfit.delta.delta import Delta
from bitfit.inference.evaluation import Evaluation
from bitfit.page.drawings import Axes, Cell, Series, bars, matrix, plot
from bitfit.page.markup import Markup, element, foreign, joined
from bitfit.page.parts import code, figure, figures, items, paragraph, section, table
from bitfit.page.words import PLAIN, capitalized, mapping, measured, metric_name, numbers, score_text, validation_score
from bitfit.training.baselines import PROBE, TFIDF, better_baselines
from bitfit.training.findings import Finding
from bitfit.training.history import best_epoch_of, epochs_of

THOUSANDTH = 1e-3
MOST_OUTSIDE = 6  # changed parameters outside the layers that are listed
MOST_SETTINGS = 200
MOST_CLASSES = 20  # bars of the classes of train
TOLD = {
    "measured_on",
    "race",
    "findings",
    "history",
    "facts",
    "baselines",
    "validation",
}  # settings that have a section
RIVALS = {PROBE: "a linear model on the frozen backbone's features", TFIDF: "one on TF-IDF weights of word pieces"}
SPLIT_ORDER = ("train", "validation", "test")


def scores(delta: Delta, evaluation: Evaluation | None) -> Markup:
    """A line for each split, those of the file and that which was scored now; and what simpler models reach."""
    every = {split: dict(values) for split, values in delta.scores.items()}
    rows_of = {split: measured(delta, split) for split in every}
    if evaluation is not None:
        every[evaluation.split] = dict(evaluation.scores)
        rows_of[evaluation.split] = evaluation.measured_on
    ordered = [split for split in SPLIT_ORDER if split in every]
    ordered += [split for split in every if split not in ordered]
    main = delta.task.metrics or (delta.task.metric,)
    metrics = list(dict.fromkeys([*main, *(name for values in every.values() for name in values)]))
    rows = [
        [
            foreign(split),
            rows_of[split],
            *(score_text(name, every[split][name]) if name in every[split] else "" for name in metrics),
        ]
        for split in ordered
    ]
    note = "The score on train is that of the epoch while it learnt, with dropout." if "train" in every else ""
    header = ["split", "rows", *(foreign(metric_name(name)) for name in metrics)]
    text, drawn = _rivals(delta)
    return section(
        "How good it is",
        paragraph(text) if text else "",
        figures(table(header, rows), drawn),
        paragraph(note, style="muted") if note else "",
    )


def _rivals(delta: Delta) -> tuple[str, Markup]:
    """Its score on validation beside those of simpler models, in words and as bars."""
    task, score = delta.task, validation_score(delta)
    others = dict(sorted(numbers(delta.settings.get("baselines")).items(), key=lambda one: one[0] == TFIDF))
    if score is None or not others:
        return "", Markup("")
    ahead = better_baselines(task, score, others)
    if ahead:
        text = f"{' and '.join(ahead)} {'is' if len(ahead) == 1 else 'are'} better on validation."
    else:
        text = "On validation it is better than simpler models that learnt from the same texts."
    listed = {delta.method: score, **others}
    most = max(listed.values()) if task.metric in PLAIN else 1.0
    lines = [(name, one, score_text(task.metric, one)) for name, one in listed.items()]
    less = ", less is better" if task.metric in LESS_IS_BETTER else ""
    explained = "; ".join(["this model", *(RIVALS[name] for name in RIVALS if name in others)])
    caption = f"{metric_name(task.metric)} on validation{less}: {explained}."
    return text, figure(bars("Beside its rivals", lines, most, highlighted=1), capitalized(caption))


def findings(delta: Delta) -> Markup:
    """What training noticed, warnings first."""
    listed = [
        joined(
            [
                element("span", {"class": "badge warning" if one.severity == "warning" else "badge"}, str(one.code)),
                " ",
                foreign(str(one.text), 1000),
                ". ",
                element("span", {"class": "muted"}, foreign(str(one.remedy), 1000)),
            ]
        )
        for one in sorted(Finding.all_of(delta.settings), key=lambda one: str(one.severity) != "warning")
    ]
    return section("What to know", items(listed, "findings"))


def curves(delta: Delta) -> Markup:
    """Loss and score of each epoch, and the learning rates that raced before."""
    epochs = epochs_of(delta.settings)
    if not epochs:
        return Markup("")
    metric, best = delta.task.metric, best_epoch_of(delta.settings)
    drawn = [_curve(epochs, "loss", "loss", best), _curve(epochs, metric, metric_name(metric), best)]
    phases = list(dict.fromkeys(epoch["phase"] for epoch in epochs if "phase" in epoch))
    text = f"{len(epochs)} epochs were scored." if len(epochs) > 1 else "One epoch was scored."
    if best:
        text += f" The values of epoch {best}, the best on validation, were kept."
    if phases:
        text += " Epochs are numbered from the first phase on: "
    return section(
        "How it learnt", paragraph(text, _listed(phases)), figures(*drawn, _race(delta.settings.get("race")))
    )


def _race(document: Any) -> Markup:
    """The learning rates that raced, how long each did, and its loss then."""
    columns = [mapping(document).get(name) for name in ("rates", "steps", "losses")]
    if not all(isinstance(column, list) and len(column) == len(columns[0] or []) for column in columns):
        return Markup("")
    lines = [numbers(dict(enumerate(line))) for line in zip(*(column or [] for column in columns), strict=True)]
    proper = [list(line.values()) for line in lines if len(line) == 3]
    winner = min(proper, key=lambda line: (-line[1], line[2]), default=None)
    rows = [
        [f"{line[0]:g}", f"{line[1]:,.0f}", f"{line[2]:.4f}", "went on" if line is winner else ""] for line in proper
    ]
    caption = "Learning rates raced on the same texts; the usual one goes on unless another is clearly ahead."
    return figure(table(["rate", "steps", "loss", ""], rows, texts=0), caption)


def _curve(epochs: Sequence[dict[str, Any]], name: str, shown: str, best: int) -> Markup:
    series = []
    for split, style in (("train", "s2"), ("validation", "s1")):
        points = [
            (float(number + 1), float(epoch[split][name]))
            for number, epoch in enumerate(epochs)
            if name in epoch[split]
        ]
        series.append(Series(split, points, style, dots=len(points) <= 50))
    last = [number + 1 for number, epoch in enumerate(epochs) if epoch["epoch"] == best and "phase" not in epoch]
    chosen = [point for point in series[1].points if last and point[0] == last[-1]]
    axes = Axes("epoch", "", (0.5, len(epochs) + 0.5), whole_x=True)
    return figure(
        plot(f"{shown} by epoch", axes, [*series, Series("kept", chosen, "mark", False, True)]),
        f"{capitalized(shown)} by epoch",
    )


def data(delta: Delta) -> Markup:
    """What it learnt from and was scored on, as far as the file knows."""
    task, facts = delta.task, mapping(delta.settings.get("facts"))
    examples, pieces, cut = (numbers(facts.get(name)) for name in ("examples", "pieces", "cut"))
    ordered = [*(split for split in SPLIT_ORDER if split in examples), *(s for s in examples if s not in SPLIT_ORDER)]
    rows = [
        [
            foreign(split),
            f"{examples[split]:,.0f}",
            f"{pieces[split] / examples[split]:,.1f}" if pieces.get(split) and examples[split] > 0 else "",
            f"{cut[split]:,.0f}" if split in cut else "",
        ]
        for split in ordered
    ]
    columns = joined([*_with_commas(task.texts), " → ", foreign(task.label)])
    spans = task.kind == "span"
    length = f". {'Windows have at most' if spans else 'Texts are cut at'} {task.max_length:,} pieces."
    text = paragraph("Columns: ", columns, length)
    header = ["split", *(["windows", "pieces a window"] if spans else ["texts", "pieces a text"]), "cut"]
    return section("The data", text, figures(table(header, rows), _classes_of_train(task, facts.get("classes"))))


def _classes_of_train(task: Task, counts: Any) -> Markup:
    """How many examples of each class or label there were, the most first."""
    if not isinstance(counts, list) or len(counts) != len(task.labels):
        return Markup("")
    if not all(type(count) is int and 0 <= count < 1e12 for count in counts):
        return Markup("")
    ordered = sorted(zip(task.labels, counts, strict=True), key=lambda pair: -pair[1])
    shown = ordered if len(ordered) <= MOST_CLASSES else [*ordered[: MOST_CLASSES // 2], *ordered[-MOST_CLASSES // 2 :]]
    one, several = ("label", "Labels") if task.kind == "labels" else ("class", "Classes")
    drawn = bars(f"{several} of train", [(name, count, f"{count:,}") for name, count in shown], max(counts))
    less = "" if shown is ordered else f", the most and the least frequent {MOST_CLASSES // 2} of {len(ordered)}"
    return figure(drawn, f"Examples of each {one} in train{less}.")


def changed(moved: Sequence[Change]) -> Markup:
    """How far each term moved in each layer."""
    cells = by_layer(moved)
    most = max(cells.values(), default=0.0)
    if most <= 0:
        return Markup("")
    terms = list(dict.fromkeys(term for term, _ in cells))
    layers = sorted({layer for _, layer in cells})
    drawn = matrix(
        "Change of each term in each layer",
        (terms, [str(layer) for layer in layers]),
        [
            Cell(
                terms.index(term), layers.index(layer), value / most, f"{value / THOUSANDTH:.{1 if most < 0.1 else 0}f}"
            )
            for (term, layer), value in cells.items()
        ],
        ("term", "layer"),
    )
    outside = sorted((one for one in moved if one.layer is None), key=lambda one: -one.change)[:MOST_OUTSIDE]
    rest = ", ".join(f"{one.name} {one.change / THOUSANDTH:.3g}" for one in outside)
    caption = "Mean absolute change of a vector's elements, in thousandths; the darker, the further it moved."
    return section(
        "What training changed",
        figures(
            figure(drawn, joined([caption, *([" Outside the layers: ", foreign(rest, 600), "."] if rest else [])]))
        ),
    )


def use(delta: Delta, file: str) -> Markup:
    """Commands and lines of Python that answer texts with it."""
    task, shell = delta.task, shlex.quote(file)
    one = len(task.texts) == 1
    lines = [f'bitfit predict {shell} "Some text."'] if one else []
    lines.append(f"bitfit predict {shell} --input new.csv --out answers.csv")
    text = "'Some text.'" if one else "('A first text.', 'And a second.')"
    python = [
        "import bitfit",
        "",
        f"delta = bitfit.Delta.load({file!r})",
        f"answer = delta.predict({delta.backbone!r}, {text})",
        "print(answer.value, answer.scores)",
    ]
    return section("How to use it", code("\n".join(lines)), code("\n".join(python)))


def settings(delta: Delta) -> Markup:
    """The settings of the training, and the versions of what it ran on."""
    of_file = {
        "backbone": delta.backbone,
        "fingerprint": delta.fingerprint,
        "method": f"{delta.method}, head {delta.head_mode}",
        "values": f"{delta.size:,} in {len(delta.slots)} slots",
        "task": f"{delta.task.name} ({delta.task.kind})",
    }
    rows = {**of_file, **{name: value for name, value in delta.settings.items() if name not in TOLD}}
    versions = {f"{name} version": version for name, version in delta.versions.items()}
    listed = list({**rows, **versions}.items())[:MOST_SETTINGS]
    shown = [[foreign(name), foreign(_shown(value), 200)] for name, value in listed]
    return section("Settings and versions", element("div", {"class": "small"}, table(["", ""], shown, texts=2)))


def _shown(value: Any, depth: int = 0) -> str:
    """A setting in words."""
    if isinstance(value, list | dict) and depth > 2:
        return "…"
    if isinstance(value, list):
        return ", ".join(_shown(one, depth + 1) for one in value[:50])
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one, depth + 1)}" for name, one in list(value.items())[:50])
    return "-" if value is None else str(value)


def _with_commas(names: Sequence[str]) -> list[Markup]:
    return [joined([", " if number else "", foreign(name)]) for number, name in enumerate(names)]


def _listed(names: Sequence[str]) -> Markup:
    return joined([*_with_commas(names), "." if names else ""])
