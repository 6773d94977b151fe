"""A run's epochs and the facts of its data, as its delta stores them.

Both are small, depend on no clock, and are read back as what anybody may have written there.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitfit.data.examples import TaskData

DIGITS = 5  # of a loss or a score: more tell nothing
MOST_EPOCHS = 200  # of longer runs as many, evenly spread
LARGEST = 1e12  # no loss and no step is as large
SPLITS = ("train", "validation")
NUMBERED = ("epoch", "step")

Epochs = Sequence[Mapping[str, Any]]  # as `Run.history` has them


def compact(history: Epochs, best_epoch: int) -> dict[str, Any]:
    """The epochs as columns, with None where one has no such figure."""
    last = len(history) - 1
    spread = np.linspace(0, last, MOST_EPOCHS) if last >= MOST_EPOCHS else np.arange(last + 1)
    chosen = sorted({*spread.round().astype(int).tolist(), *_indices(history, best_epoch)})
    epochs = [history[index] for index in chosen]
    document: dict[str, Any] = {name: [epoch.get(name) for epoch in epochs] for name in NUMBERED}
    document["best"] = best_epoch
    if any("phase" in epoch for epoch in epochs):
        document["phase"] = [epoch.get("phase") for epoch in epochs]
    for split in SPLITS:
        figures = [epoch.get(split, {}) for epoch in epochs]
        names = dict.fromkeys(name for figure in figures for name in figure)
        document[split] = {name: [_rounded(figure.get(name)) for figure in figures] for name in names}
    return document


def _indices(history: Epochs, best_epoch: int) -> list[int]:
    """Where the best epoch stands: the one with that number in the last phase."""
    return [index for index, epoch in enumerate(history) if epoch.get("epoch") == best_epoch][-1:]


def _rounded(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")


def epochs_of(settings: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The epochs that a delta's settings hold, as `Run.history` has them; none where they are not as `compact` writes
    them."""
    document = settings.get("history")
    if not isinstance(document, Mapping) or not _is_column(document.get("epoch"), int):
        return ()
    size = len(document["epoch"])
    epochs: list[dict[str, Any]] = [{"epoch": number} for number in document["epoch"]]
    for name, kind in (("step", int), ("phase", str)):
        if _is_column(document.get(name), kind) and len(document[name]) == size:
            for epoch, value in zip(epochs, document[name], strict=True):
                epoch |= {} if value is None else {name: value}
    for split in SPLITS:
        columns = document.get(split)
        figures = columns if isinstance(columns, Mapping) else {}
        proper = {name: one for name, one in figures.items() if _is_column(one, float) and len(one) == size}
        for index, epoch in enumerate(epochs):
            epoch[split] = {name: column[index] for name, column in proper.items() if column[index] is not None}
    return tuple(epochs)


def best_epoch_of(settings: Mapping[str, Any]) -> int:
    """The number of the epoch whose values a delta holds; 0 where it does not say."""
    document = settings.get("history")
    best = document.get("best") if isinstance(document, Mapping) else None
    return best if type(best) is int and best > 0 else 0


def _is_column(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(value is None or _is_proper(value, kind) for value in values)


def _is_proper(value: Any, kind: type) -> bool:
    if kind is str:
        return type(value) is str
    return type(value) in ((int, float) if kind is float else (int,)) and abs(value) < LARGEST


def data_facts(data: TaskData) -> dict[str, Any]:
    """What a run's data was like: examples, pieces and texts that were cut, of each split; classes of train."""
    splits = data.splits.items()
    facts: dict[str, Any] = {
        "examples": {name: len(examples) for name, examples in splits},
        "pieces": {name: len(examples.ids) for name, examples in splits},
        "cut": {name: int(examples.truncated) for name, examples in splits},
    }
    if data.task.kind == "class":
        labels = np.asarray(data.splits["train"].labels)
        facts["classes"] = np.bincount(labels[labels >= 0], minlength=len(data.task.labels)).tolist()
    if data.task.kind == "labels":
        facts["classes"] = (np.asarray(data.splits["train"].labels) > 0).sum(axis=0).tolist()
    return facts
