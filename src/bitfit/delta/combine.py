"""Deltas compared, averaged and added up.

Averages and sums are taken in float64 and rounded once, so their order does not matter beyond that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfit.backbone.load import Backbone
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.delta.model_values import read_values
from bitfit.errors import DeltaError
from bitfit.methods.method import Method

FOLLOWS = ("history", "validation")  # settings that differ where anything does, and are too long to show


@dataclass(frozen=True)
class SlotDifference:
    """How far two deltas stand apart in one slot."""

    key: str
    size: int
    mean: float  # mean absolute difference of the slot's elements
    largest: float


@dataclass(frozen=True)
class Comparison:
    """Two deltas side by side: what they say where they differ, and how far their values are apart."""

    fields: Mapping[str, tuple[Any, Any]]  # only those that differ
    slots: tuple[SlotDifference, ...]  # those that both have, in the same shape
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether the two hold the same task and the same values."""
        apart = any(slot.largest > 0 for slot in self.slots)
        return not (self.fields or self.only_first or self.only_second or apart)

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "identical": self.identical,
            "fields": {name: list(pair) for name, pair in self.fields.items()},
            "slots": [asdict(slot) for slot in self.slots],
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
        }


def compare(first: Delta, second: Delta) -> Comparison:
    """What differs between two deltas, of the same backbone or not."""
    ours, theirs = _fields(first), _fields(second)
    shared = [
        key for key, value in first.values.items() if key in second.values and second.values[key].shape == value.shape
    ]
    return Comparison(
        {
            name: (ours.get(name), theirs.get(name))
            for name in ours | theirs  # one may have settings, or scores of parts, that the other lacks
            if ours.get(name) != theirs.get(name)
        },
        tuple(_difference(key, first.values[key], second.values[key]) for key in shared),
        tuple(key for key in first.values if key not in shared),
        tuple(key for key in second.values if key not in shared),
    )


def average(deltas: Sequence[Delta]) -> Delta:
    """The element by element mean of deltas with the same backbone, selection and kind of task."""
    first = _alike(deltas)
    means = {
        key: _rounded(np.sum([delta.values[key] for delta in deltas], axis=0, dtype=np.float64) / len(deltas))
        for key in first.values
    }
    return _combined(deltas, means, "average")


def add(deltas: Sequence[Delta], backbone: Backbone) -> Delta:
    """The backbone plus every delta's change of it. Heads have no common start: theirs is averaged."""
    first = _alike(deltas)
    first.check(backbone)
    model = backbone.task_model(first.task.head)
    first.insert_modules(model)
    starts = read_values(first.slots, model)
    sums = dict(average(deltas).values)
    for slot in first.slots:
        if not slot.in_head:
            start = starts[slot.key].astype(np.float64)
            changes = [delta.values[slot.key] - start for delta in deltas]
            sums[slot.key] = _rounded(start + np.sum(changes, axis=0))
    return _combined(deltas, sums, "sum")


def _fields(delta: Delta) -> dict[str, Any]:
    return {
        "backbone": delta.backbone,
        "fingerprint": delta.fingerprint,
        "method": delta.method,
        "head": delta.head_mode,
        **{f"task.{name}": value for name, value in delta.task.to_json().items()},
        **{f"settings.{name}": value for name, value in delta.settings.items() if name not in FOLLOWS},
    } | {
        f"scores.{split}.{metric}": value for split, scores in delta.scores.items() for metric, value in scores.items()
    }


def _difference(key: str, first: NDArray[np.float32], second: NDArray[np.float32]) -> SlotDifference:
    gap = np.abs(first.astype(np.float64) - second)
    return SlotDifference(key, gap.size, float(gap.mean()) if gap.size else 0.0, float(gap.max(initial=0.0)))


def _rounded(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _kind(task: Task) -> str:
    """What two tasks have in common if their heads answer alike, in words."""
    labels = f" of {', '.join(task.labels)}" if task.labels else ""
    return f"{task.kind}{labels} ({task.pool})"


def _selection(delta: Delta) -> str:
    """What was selected, in words."""
    seed = f", seed {delta.settings['seed']}" if "seed" in delta.settings else ""
    return f"'{delta.method}' (head {delta.head_mode}{seed}: {len(delta.slots)} slots)"


def _alike(deltas: Sequence[Delta]) -> Delta:
    """The first of several deltas that can be combined element by element."""
    if not deltas:
        raise DeltaError("There is no delta to combine: at least one was expected.")
    first = deltas[0]
    method = Method.maybe_of(first.method)
    if method is not None and not method.averages:
        raise DeltaError(
            f"Deltas of '{first.method}' cannot be averaged or added: each run's new layers have axes of their own. "
            "Those of the methods that change a model's own parameters, and of 'added-bias', can."
        )
    for delta in deltas[1:]:
        if delta.fingerprint != first.fingerprint:
            raise DeltaError(
                f"Deltas of one backbone were expected; found '{first.backbone}' ({first.fingerprint}) "
                f"and '{delta.backbone}' ({delta.fingerprint})."
            )
        ours, theirs = _kind(first.task), _kind(delta.task)
        if ours != theirs:
            raise DeltaError(f"Deltas of one kind of task were expected; found {ours} and {theirs}.")
        if delta.slots != first.slots:
            raise DeltaError(
                f"Deltas of one selection were expected; found {_selection(first)} and {_selection(delta)}. "
                "Runs of one method, head and (where it draws elements) seed have the same."
            )
    return first


def _combined(deltas: Sequence[Delta], values: Mapping[str, NDArray[np.float32]], how: str) -> Delta:
    """The first delta with new values; scores and settings were the runs' and do not hold any more."""
    sources = [f"{delta.task.name}: {delta.method}" for delta in deltas]
    revision = {name: value for name, value in deltas[0].settings.items() if name == "revision"}
    return replace(deltas[0], values=values, scores={}, settings={"combined": how, "of": sources, **revision})
