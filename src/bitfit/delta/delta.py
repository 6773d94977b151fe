"""What a run changed, with everything needed to use it: apply, revert, save, load.

The values are the trained parameters themselves, not differences: applying gives exactly what was trained.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

import bitfit  # for `predict`, which is loaded on first use: its folder stands above this one
from bitfit.backbone.heads import OwnTask
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.data.task import Task
from bitfit.delta import storage
from bitfit.delta.document import Document, Extent, SlotLine, check_calibration
from bitfit.delta.model_values import Where, check_same_parameters, check_unchanged, located, read_values, require_same
from bitfit.errors import DeltaError, RequestError, nearest
from bitfit.methods.insertion import Insertion, check_untouched, nothing
from bitfit.methods.method import Method
from bitfit.methods.selection import HeadMode, Selection, Slot
from bitfit.methods.theta import with_whole_head
from bitfit.runtime.precision import versions as versions_now

Values = Mapping[str, NDArray[np.float32]]

_INDEX = "::index"  # ends the name of the tensor that holds a slot's indices
_INT32_MOST = 2**31


class Reverter:
    """The bytes that applying replaced; puts them back once, at the end of a `with` block or when told."""

    def __init__(self, saved: list[tuple[nn.Parameter, Where, Tensor]], after: Callable[[], None]) -> None:
        self._saved, self._after = saved, after

    def __repr__(self) -> str:
        return f"Reverter({len(self._saved)} parameters to put back)"

    def revert(self) -> None:
        """Puts every replaced value back, to the bit. A second call does nothing."""
        with torch.no_grad():
            for parameter, where, value in self._saved:
                parameter[where] = value
        self._after()
        self._saved, self._after = [], nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.revert()


@dataclass(frozen=True, eq=False, repr=False)
class Delta:
    """One trained task over one backbone. Its arrays are checked when it is made, whoever makes it."""

    backbone: str  # its name
    fingerprint: str  # "sha256:..." over all its weights
    method: str
    head_mode: HeadMode
    slots: tuple[Slot, ...]  # the Selection, in the model's parameter order
    values: Values  # by slot key: a whole parameter in its shape, or the slot's elements as a vector
    task: Task
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # split -> metric -> 0..1
    settings: Mapping[str, Any] = field(default_factory=dict)  # JSON values
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version

    def __post_init__(self) -> None:
        if problem := self.task.labels_problem:
            raise DeltaError(problem)
        object.__setattr__(self, "task", self.task.on("first"))
        check_calibration(self.settings, self.task)
        _check_slots(self.slots)
        _check_values(self.slots, self.values)

    def __repr__(self) -> str:
        return (
            f"Delta({self.method!r} on {self.backbone!r} for {self.task.name!r}: "
            f"{self.size:,} values in {len(self.slots)} slots)"
        )

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(value.size for value in self.values.values())

    @property
    def revision(self) -> str | None:
        """The backbone's revision on the hub, where one was asked for."""
        revision = self.settings.get("revision")
        return revision if isinstance(revision, str) else None

    @property
    def temperature(self) -> float | None:
        """What `predict` divides the head's numbers by, fitted on validation; None where nothing was fitted."""
        temperature: float | None = self.settings.get("calibration", {}).get("temperature")
        return temperature

    @property
    def threshold(self) -> float | None:
        """The confidence below which `predict` says that it is unsure; None where none was chosen."""
        threshold: float | None = self.settings.get("calibration", {}).get("threshold")
        return threshold

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """Of labels: the share from which on each is answered, one for all by training; None where none was chosen."""
        thresholds = self.settings.get("calibration", {}).get("thresholds")
        return None if thresholds is None else tuple(thresholds)

    def with_threshold(self, confidence: float, precision: float) -> "Delta":
        """The same delta, unsure below this confidence; above it answers were this precise."""
        kept = {**self.settings.get("calibration", {}), "threshold": confidence, "precision": precision}
        return replace(self, settings={**self.settings, "calibration": kept})

    def with_thresholds(self, shares: Mapping[str, float]) -> "Delta":
        """The same delta, which answers these labels from other shares on."""
        if unknown := [label for label in shares if label not in self.task.labels]:
            raise RequestError(f"There is no label '{unknown[0]}'. {nearest(str(unknown[0]), self.task.labels)}")
        before = self.thresholds or (0.5,) * len(self.task.labels)
        chosen = [shares.get(label, least) for label, least in zip(self.task.labels, before, strict=True)]
        calibration = {**self.settings.get("calibration", {}), "thresholds": chosen}
        return replace(self, settings={**self.settings, "calibration": calibration})

    @classmethod
    def from_model(
        cls, model: PreTrainedModel, selection: Selection, *, task: Task, backbone: Backbone | str | Path
    ) -> "Delta":
        """The delta of a task model that was trained in any loop: what it holds at the selection, and its whole head.

        Refused is a model with other parameters than the task's model, with other bits in one outside the selection
        and the head, with another buffer, or with another epsilon of a norm. Neither the head, which the delta holds
        whole, is compared, whatever the selection trains of it, nor the configuration.
        """
        if not isinstance(model, nn.Module):
            raise RequestError(f"Expected the trained task model first; found a {type(model).__name__}.")
        if not isinstance(selection, Selection):
            raise RequestError(f"Expected a Selection: bitfit.select(model, 'bitfit'); found {selection!r:.80}.")
        if not isinstance(task, Task):
            raise RequestError(f"Expected a Task: bitfit.Task('mood', labels=[...]); found {task!r:.80}.")
        backbone, task = as_backbone(backbone), task.on("mean" if isinstance(model, OwnTask) else "first")
        check_untouched(model, selection.method)
        untouched = backbone.task_model(task.head)
        _insert(selection.method, untouched)
        check_same_parameters(model, untouched)
        slots = with_whole_head(selection, model)
        where = (backbone.name, backbone.fingerprint, selection.method, selection.head)
        settings = {} if backbone.revision is None else {"revision": backbone.revision}
        delta = cls(*where, slots, read_values(slots, model), task, settings=settings, versions=versions_now())
        check_unchanged(slots, model, untouched)
        return delta

    # ------------------------------------------------------------------ use

    def predict(self, backbone: Backbone | str | Path, texts: Any) -> Any:
        """An Answer to one text, a list of them to many: see `bitfit.predict`."""
        return bitfit.predict(as_backbone(backbone), self, texts)

    def check(self, backbone: Backbone | str | Path) -> None:
        """Refuses a backbone that is not the one this was trained on."""
        backbone = as_backbone(backbone)
        if backbone.fingerprint != self.fingerprint:
            raise DeltaError(
                f"The delta was trained on '{self.backbone}' ({self.fingerprint}); the model given is "
                f"'{backbone.name}' ({backbone.fingerprint or 'without weights'}). "
                f"Give the model it was trained on, '{self.backbone}'."
            )

    def insert_modules(self, model: nn.Module) -> Insertion:
        """Puts the new parameters of the delta's method into a task model; `undo` of the answer takes them out again.

        Nothing happens for a method that has none, and where the model has them already.
        """
        return _insert(self.method, model)

    @contextmanager
    def applied(self, backbone: Backbone | str | Path) -> Iterator[PreTrainedModel]:
        """The trained task model, with the task's label names, while the block runs; afterwards the backbone is as it
        was, to the bit."""
        backbone = as_backbone(backbone)
        self.check(backbone)
        model = backbone.task_model(self.task.head).eval()
        _name_labels(model, self.task)
        with self.apply(model):
            yield model

    def apply(self, model: nn.Module) -> Reverter:
        """Writes the values into a task model's own parameters, all or none; the answer takes them back."""
        if isinstance(model, Backbone):
            raise RequestError(
                "Expected a task model; found a Backbone. Use it as `with delta.applied(backbone) as model: ...`."
            )
        undo = self.insert_modules(model).undo
        try:
            targets = located(self.slots, model)
        except DeltaError:
            undo()
            raise
        reverter = Reverter([(parameter, at, parameter.detach()[at].clone()) for parameter, at in targets], undo)
        try:
            with torch.no_grad():
                for slot, (parameter, where) in zip(self.slots, targets, strict=True):
                    parameter[where] = torch.tensor(self.values[slot.key], device=parameter.device)
        except BaseException:
            reverter.revert()
            raise
        return reverter

    def verify(self, backbone: Backbone | str | Path) -> None:
        """Tries it on a backbone: applying gives its values and reverting gives the backbone, to the bit."""
        backbone = as_backbone(backbone)
        self.check(backbone)
        model = backbone.task_model(self.task.head).eval()
        self.insert_modules(model)
        targets = located(self.slots, model)
        before = [parameter.detach()[where].clone() for parameter, where in targets]
        with self.apply(model):
            for slot, (parameter, where) in zip(self.slots, targets, strict=True):
                expected = torch.tensor(self.values[slot.key])
                require_same(parameter.detach()[where].cpu(), expected, slot.name, "applied")
        for slot, (parameter, where), old in zip(self.slots, targets, before, strict=True):
            require_same(parameter.detach()[where], old, slot.name, "reverted")

    # ------------------------------------------------------------------ file

    def to_bytes(self) -> bytes:
        """The file's bytes: equal deltas give equal bytes."""
        tensors: dict[str, NDArray[Any]] = dict(self.values)
        for slot in self.slots:
            if slot.index is not None and _range_of(slot.index) is None:
                small = slot.size == 0 or int(slot.index[-1]) < _INT32_MOST
                tensors[slot.key + _INDEX] = slot.index.astype(np.int32 if small else np.int64)
        return storage.pack(storage.Contents(self._document().to_text(), tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Delta":
        """The delta that a file's bytes hold, or a DeltaError that says what is wrong with them."""
        return cls._from_contents(storage.unpack(data))

    def save(self, path: str | Path) -> None:
        """Writes the file, whole or not at all."""
        storage.write_whole(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> "Delta":
        """The delta in a file, or a DeltaError that names the file and what is wrong with it."""
        try:
            return cls._from_contents(storage.read(Path(path)))
        except DeltaError as error:
            raise DeltaError(f"{path} is refused. {error}") from error

    def _document(self) -> Document:
        return Document(
            self.backbone,
            self.fingerprint,
            self.method,
            self.head_mode,
            tuple(map(_line_of, self.slots)),
            self.task,
            self.scores,
            self.settings,
            self.versions,
        )

    @classmethod
    def _from_contents(cls, contents: storage.Contents) -> "Delta":
        document = Document.from_text(contents.document)
        tensors = dict(contents.tensors)
        slots = tuple(_slot_of(line, tensors) for line in document.slots)
        return cls(
            document.backbone,
            document.fingerprint,
            document.method,
            document.head_mode,
            slots,
            _values_of(slots, tensors),
            document.task,
            document.scores,
            document.settings,
            document.versions,
        )


def _insert(name: str, model: nn.Module) -> Insertion:
    method = Method.maybe_of(name)
    try:
        return Insertion(name) if method is None else method.insert(model)
    except RequestError as error:
        raise DeltaError(f"The delta's method does not fit the model. {error}") from error


def _name_labels(model: PreTrainedModel, task: Task) -> None:
    """Tell a task model what its labels are called. Its configuration is a copy: the backbone's stays what it was."""
    if task.labels:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: number for number, label in enumerate(task.labels)}


# ---------------------------------------------------------------------- slots and their lines


def _range_of(index: NDArray[np.int64]) -> tuple[int, int] | None:
    """The range that sorted indices fill without gaps, as the parts of a fused parameter do."""
    if not len(index) or int(index[-1]) - int(index[0]) + 1 != len(index):
        return None
    return int(index[0]), int(index[-1]) + 1


def _line_of(slot: Slot) -> SlotLine:
    if slot.index is None:
        return SlotLine(slot.name, slot.part, inert=slot.inert, in_head=slot.in_head)
    span = _range_of(slot.index)
    extent: Extent = "indices" if span is None else "range"
    return SlotLine(slot.name, slot.part, extent, slot.shape, span or (0, 0), slot.inert, slot.in_head)


def _slot_of(line: SlotLine, tensors: dict[str, NDArray[Any]]) -> Slot:
    """The slot that a line speaks of. Takes the tensor of its indices, if it has one, out of `tensors`."""
    value = tensors.get(line.key)
    if value is None:
        raise DeltaError(f"The document speaks of {line.key!r}; the file has no such tensor.")
    if line.extent == "all":
        return Slot(line.name, value.shape, None, line.inert, line.in_head, line.part)
    index = _indices_of(line, value.size, tensors)
    return Slot(line.name, line.shape, index, line.inert, line.in_head, line.part)


def _indices_of(line: SlotLine, size: int, tensors: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    if line.extent == "range":
        if line.span[1] - line.span[0] != size:  # before a range of any length is written out
            raise DeltaError(f"Slot {line.key!r} has {size:,} values for the range {line.span}.")
        return np.arange(*line.span, dtype=np.int64)
    index = tensors.pop(line.key + _INDEX, None)
    if index is None or index.dtype not in (np.int32, np.int64) or index.ndim != 1:
        raise DeltaError(f"Slot {line.key!r} needs its indices: a vector of whole numbers.")
    return index.astype(np.int64)


def _values_of(slots: tuple[Slot, ...], tensors: Mapping[str, NDArray[Any]]) -> Values:
    strangers = sorted(set(tensors) - {slot.key for slot in slots})
    if strangers:
        raise DeltaError(f"The file holds tensors that its document does not speak of: {strangers[:3]}.")
    return {slot.key: tensors[slot.key] for slot in slots}


# ---------------------------------------------------------------------- checks


def _check_slots(slots: tuple[Slot, ...]) -> None:
    """Slots are sorted, inside their parameter, and never over one another."""
    if len({slot.key for slot in slots}) != len(slots):
        raise DeltaError("Two slots have the same key.")
    parts: dict[str, list[Slot]] = {}
    for slot in slots:
        _check_index(slot)
        parts.setdefault(slot.name, []).append(slot)
    for name, group in parts.items():
        if len(group) == 1:
            continue
        if any(slot.index is None for slot in group) or len({slot.shape for slot in group}) != 1:
            raise DeltaError(f"Two slots change the same parameter {name!r}.")
        every = np.concatenate([slot.index for slot in group if slot.index is not None])
        if len(np.unique(every)) != len(every):
            raise DeltaError(f"Two slots change the same elements of {name!r}.")


def _check_index(slot: Slot) -> None:
    if slot.index is None or not len(slot.index):
        return
    inside = slot.index[0] >= 0 and int(slot.index[-1]) < math.prod(slot.shape)
    if not inside or not bool(np.all(np.diff(slot.index) > 0)):
        raise DeltaError(f"The indices of slot {slot.key!r} are not sorted inside a shape of {slot.shape}.")


def _check_values(slots: tuple[Slot, ...], values: Values) -> None:
    """Every slot has its values: float32, finite, and as many as the slot has elements."""
    if set(values) != {slot.key for slot in slots}:
        raise DeltaError(f"Values and slots differ: {sorted(set(values) ^ {slot.key for slot in slots})[:3]}.")
    for slot in slots:
        value = values[slot.key]
        expected = slot.shape if slot.index is None else (len(slot.index),)
        if value.shape != expected:
            raise DeltaError(f"Slot {slot.key!r} needs values of shape {expected}; found {value.shape}.")
        if value.dtype != np.float32:
            raise DeltaError(f"Slot {slot.key!r} needs float32 values; found {value.dtype}.")
        if not bool(np.isfinite(value).all()):
            raise DeltaError(f"Slot {slot.key!r} holds values that are not finite numbers.")
