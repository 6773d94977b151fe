"""What a training finds doubtful about its data, score and settings, each with a code and a remedy.

docs/findings.md has a paragraph for each code. Nothing here depends on a clock, so the delta keeps the findings.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitfit.backbone.device import chosen_device
from bitfit.data.examples import Examples, TaskData
from bitfit.data.task import LESS_IS_BETTER, Task
from bitfit.inference.bootstrap import Interval
from bitfit.inference.calibration import probabilities
from bitfit.inference.metrics import known_rows
from bitfit.inference.thresholds import shares_of
from bitfit.methods.method import Method
from bitfit.methods.selection import Slot
from bitfit.runtime.precision import fast_bf16
from bitfit.training.baselines import better_baselines
from bitfit.training.config import TrainConfig

Severity = Literal["warning", "info"]  # a warning: the score, or the model, may not be what it seems

POINTS = 0.05  # of a score from 0 to 1: a wider interval, or seeds further apart, cannot tell
FEW_EXAMPLES = 10  # of a class
MANY_CUT = 0.05  # share of texts
SURE = 0.95  # calibrated confidence of an answer against its label
MOST_LISTED = 3

# Each code's severity, and what to do.
CODES: Mapping[str, tuple[Severity, str]] = {
    "BF001": ("warning", "Try more epochs or another learning rate, or use the simpler model."),
    "BF002": ("info", "Add rates beyond it."),
    "BF003": ("info", "Train for more epochs."),
    "BF004": ("info", "Hold out more rows before you compare runs by this score."),
    "BF005": ("warning", "Label more examples of it, or merge small classes."),
    "BF006": ("warning", "Look at its examples; label more of them, or train longer."),
    "BF007": ("warning", "Look at the labels; lower the learning rate or train longer."),
    "BF008": ("info", "Raise the length, `DataOptions(max_length=...)`, if the model reads as many."),
    "BF009": ("warning", "Take them out of one of the splits: the score counts what was learnt by heart."),
    "BF010": ("warning", "Decide for one label, or take these texts out."),
    "BF011": ("warning", "Give the mean over several seeds, and do not choose by one seed's score."),
    "BF012": ("info", "Leave b_k out: it is saved and changes no answer."),
    "BF013": ("info", "Use fp32, or leave the precision to be chosen."),
    "BF014": ("info", "Read them: a wrong label costs score here, and so it does in train."),
}


@dataclass(frozen=True)
class Finding:
    """One thing that a training noticed about itself, and what to do about it."""

    code: str  # "BF001", ...
    severity: Severity
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.code} {self.severity}: {self.text}. {self.remedy}"

    def to_json(self) -> dict[str, str]:
        """Its fields as plain values."""
        return asdict(self)

    @classmethod
    def all_of(cls, settings: Mapping[str, Any]) -> "tuple[Finding, ...]":
        """Those that a delta's settings hold; what another program wrote there and is none is passed over."""
        names = {field.name for field in fields(cls)}
        documents = settings.get("findings")
        documents = documents if isinstance(documents, list) else []
        return tuple(cls(**one) for one in documents if isinstance(one, Mapping) and set(one) == names)


def _finding(code: str, text: str) -> Finding:
    severity, remedy = CODES[code]
    return Finding(code, severity, text, remedy)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Warnings first, each once, by code."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda one: (one.severity != "warning", one.code)))


# ---------------------------------------------------------------------- of a run's scores


def score_findings(
    task: Task, config: TrainConfig, history: Sequence[Mapping[str, Any]], validation: Examples, outputs: NDArray[Any]
) -> list[Finding]:
    """Of one run that came to its end: of its epochs, and of its answers on validation in the best one, as `score`
    takes them."""
    found = _still_improving(task, config, history, validation)
    return [*found, *_one_sided(task, validation, outputs)] if task.kind in ("class", "labels") else found


def baseline_findings(task: Task, name: str, own: float | None, baselines: Mapping[str, float]) -> list[Finding]:
    """Of a run's main score on validation beside its baselines'."""
    ahead = [] if own is None else better_baselines(task, own, baselines)
    if not ahead:
        return []
    verb = "is" if len(ahead) == 1 else "are"
    return [_finding("BF001", f"{' and '.join(ahead)} {verb} better than {name} on validation")]


def _still_improving(
    task: Task, config: TrainConfig, history: Sequence[Mapping[str, Any]], validation: Examples
) -> list[Finding]:
    """The last epoch is the best, and by more than the standard error of a share of the validation rows."""
    metric = task.metric
    scores = [epoch["validation"][metric] for epoch in history if metric in epoch["validation"]]
    if metric in LESS_IS_BETTER or len(scores) < 2 or len(scores) != config.epochs:
        return []
    last, before = scores[-1], max(scores[:-1])
    noise = math.sqrt(max(last * (1 - last), 0) / len(validation))
    if last - before <= max(noise, 1e-9):
        return []
    gained = f"{100 * (last - before):.1f} points of validation {metric}"
    return [_finding("BF003", f"the last of {len(scores)} epochs is the best, and gained {gained}")]


def interval_findings(task: Task, rows: int, interval: Interval) -> list[Finding]:
    """Of the interval of the main score on so many rows of validation."""
    if task.metric in LESS_IS_BETTER or interval.high - interval.low <= POINTS:
        return []
    between = f"between {100 * interval.low:.1f} and {100 * interval.high:.1f}"
    return [
        _finding("BF004", f"{rows:,} rows of validation are few: the true {task.metric} may lie anywhere {between}")
    ]


def _one_sided(task: Task, validation: Examples, outputs: NDArray[Any]) -> list[Finding]:
    """Classes or labels that are there on validation and never answers."""
    known = known_rows(task, validation)
    outputs, labels = np.asarray(outputs)[known], np.asarray(validation.labels)[known]
    if task.kind == "labels":
        answered, there = outputs >= 0, labels > 0
    else:
        answered, there = (np.eye(len(task.labels), dtype=bool)[each] for each in (outputs.argmax(axis=1), labels))
    missed = [task.labels[index] for index in np.flatnonzero(there.any(axis=0) & ~answered.any(axis=0))]
    if (answered == answered[0]).all() and not (there == there[0]).all():
        return [_finding("BF007", f"every text of validation is answered {_labelled(task, answered[0])}")]
    if not missed:
        return []
    verb = "is" if len(missed) == 1 else "are"
    return [_finding("BF006", f"{_classes(task, missed)} {verb} never predicted on validation")]


def _labelled(task: Task, there: NDArray[Any]) -> str:
    """A row's labels: 'a' and 'b', or none."""
    return " and ".join(f"'{task.labels[index]}'" for index in np.flatnonzero(there)) or "with no label"


def _classes(task: Task, names: Sequence[str]) -> str:
    """'the class 'a'', or 'the classes 'a', 'b', 'c' and 2 more'."""
    shown = ", ".join(f"'{name}'" for name in names[:MOST_LISTED])
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    one, several = ("label", "labels") if task.kind == "labels" else ("class", "classes")
    return f"the {one} {shown}" if len(names) == 1 else f"the {several} {shown}{more}"


def unlikely_labels(task: Task, validation: Examples, outputs: NDArray[Any], temperature: float) -> list[Finding]:
    """The surest answers on validation that are not the label."""
    shares = probabilities(outputs, temperature)
    labels, answers, confidence = np.asarray(validation.labels), shares.argmax(axis=1), shares.max(axis=1)
    wrong = np.flatnonzero((labels >= 0) & (labels != answers) & (confidence >= SURE))
    if not len(wrong):
        return []
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_LISTED]
    told = "; ".join(
        f"text {index + 1:,} is labelled '{task.labels[labels[index]]}' and answered '{task.labels[answers[index]]}'"
        f" ({confidence[index]:.3f})"
        for index in wrong
    )
    return [_finding("BF014", f"labels of validation look wrong: {told}")]


def absent_labels(task: Task, validation: Examples, outputs: NDArray[Any]) -> list[Finding]:
    """The surest labels on validation that a text does not have; `outputs` are logits."""
    shares = shares_of(outputs)
    shares[np.asarray(validation.labels) != 0] = 0
    surest = np.argsort(-shares, axis=None, kind="stable")[:MOST_LISTED]
    told = "; ".join(
        f"text {row + 1:,} lacks '{task.labels[label]}' ({shares[row, label]:.3f})"
        for row, label in zip(*np.unravel_index(surest, shares.shape), strict=True)
        if shares[row, label] >= SURE
    )
    return [_finding("BF014", f"labels of validation look wrong: {told}")] if told else []


# ---------------------------------------------------------------------- of the data


def data_findings(data: TaskData) -> list[Finding]:
    """Of what all runs learn from and are scored on."""
    found = _cut(data)
    if data.task.kind in ("class", "labels"):
        found += _few_examples(data.task, data.splits["train"])
    if data.task.kind != "span" and "pixels" not in data.splits["train"].source:
        texts = {name: _text_keys(examples) for name, examples in data.splits.items()}
        found += _shared_texts(texts)
        if data.task.kind in ("class", "labels"):
            found += _two_labels(data.task, texts["train"], np.asarray(data.splits["train"].labels))
    return found


def _cut(data: TaskData) -> list[Finding]:
    """Spans are left out: their questions are cut, and their texts never are."""
    texts = sum(map(len, data.splits.values()))
    cut = sum(examples.truncated for examples in data.splits.values())
    if data.task.kind == "span" or cut <= MANY_CUT * texts:
        return []
    share = f"{cut:,} of {texts:,} texts ({cut / texts:.0%})"
    return [_finding("BF008", f"{share} are longer than {data.task.max_length} tokens and were cut there")]


def _few_examples(task: Task, train: Examples) -> list[Finding]:
    labels = np.asarray(train.labels)
    if task.kind == "labels":
        counts = (labels > 0).sum(axis=0)
    else:
        counts = np.bincount(labels[labels >= 0], minlength=len(task.labels))
    few = [index for index in np.argsort(counts, kind="stable") if counts[index] < FEW_EXAMPLES]
    if not few:
        return []
    names = [task.labels[index] for index in few]
    least, most = counts[few[0]], counts[few[-1]]
    number = str(least) if least == most else f"from {least} to {most}"
    verb = "has" if len(few) == 1 else "have"
    each = " each" if len(few) > 1 and least == most else ""
    return [_finding("BF005", f"{_classes(task, names)} {verb} {number} training examples{each}")]


def _text_keys(examples: Examples) -> NDArray[np.bytes_]:
    """A name for each text as the model reads it: texts that differ only after the cut have the same."""
    ids, bounds = np.asarray(examples.ids), examples.offsets.tolist()
    digests = [blake2b(ids[a:b].tobytes(), digest_size=12).hexdigest() for a, b in pairwise(bounds)]
    return np.array(digests, "S24")


def _shared_texts(texts: Mapping[str, NDArray[np.bytes_]]) -> list[Finding]:
    counts = {name: int(np.isin(keys, texts["train"]).sum()) for name, keys in texts.items() if name != "train"}
    told = [f"{count:,} of {len(texts[name]):,} texts of {name}" for name, count in counts.items() if count]
    return [_finding("BF009", f"{' and '.join(told)} are in train too")] if told else []


def _two_labels(task: Task, texts: NDArray[np.bytes_], labels: NDArray[np.int64]) -> list[Finding]:
    if task.kind == "labels":  # each set of labels counts as one of its own
        sets, labels = np.unique(labels, axis=0, return_inverse=True)
        called = [_labelled(task, each > 0) for each in sets]
    else:
        called = [f"'{name}'" for name in task.labels]
    known = np.flatnonzero(labels >= 0)
    labels, text = labels[known], np.unique(texts[known], return_inverse=True)[1]
    several = np.bincount(np.unique(np.stack([text, labels]), axis=1)[0]) > 1
    if not several.any():
        return []
    first = np.flatnonzero(text == text[np.flatnonzero(several[text])[0]])
    names = " and ".join(called[index] for index in dict.fromkeys(labels[first].tolist()))
    number = f"{several.sum():,} such text{'' if several.sum() == 1 else 's'}"
    where = f"text {known[first[0]] + 1:,} is labelled {names}"
    return [_finding("BF010", f"train has the same text with different labels ({number}): {where}")]


# ---------------------------------------------------------------------- of the settings


def setting_findings(config: TrainConfig, method: Method, slots: Iterable[Slot]) -> list[Finding]:
    """Of what was asked for and cannot help."""
    found = []
    asked = {"b_k", "key"} & set(method.terms)
    if method.is_bias_method and asked and any(slot.inert for slot in slots):
        found.append(_finding("BF012", "attention gives b_k no gradient in this architecture: it cannot move"))
    if config.precision == "bf16" and chosen_device(config.device).type == "cpu" and not fast_bf16():
        found.append(_finding("BF013", "this processor does not multiply bf16 faster than fp32"))
    return found


def edge_findings(rates: Sequence[float], chosen: float) -> list[Finding]:
    """Of the learning rate that was chosen among these."""
    if len(rates) < 2 or chosen not in (min(rates), max(rates)):
        return []
    which = "lowest" if chosen == min(rates) else "highest"
    return [_finding("BF002", f"the best learning rate, {chosen:g}, is the {which} of the {len(rates)} tried")]


def grid_findings(
    configs: Sequence[TrainConfig], scores: Sequence[float | None], best: int, task: Task, raced: bool = False
) -> list[Finding]:
    """Of the best run among those of other rates and seeds; a run without a score is passed over. Whether its rate is
    at an edge is asked here only where it was given, and not the winner of a race."""
    chosen = configs[best].learning_rate
    rates: dict[float, list[float]] = {}
    for config, score in zip(configs, scores, strict=True):
        if score is not None and config.learning_rate is not None:
            rates.setdefault(config.learning_rate, []).append(score)
    if chosen not in rates:
        return []
    found = [] if raced else edge_findings(list(rates), chosen)
    spread = max(rates[chosen]) - min(rates[chosen])
    if spread > POINTS and task.metric not in LESS_IS_BETTER:
        seeds = f"{len(rates[chosen])} seeds with learning rate {chosen:g}"
        found.append(_finding("BF011", f"{seeds} are {100 * spread:.1f} points of {task.metric} apart on validation"))
    return found
