"""The JSON document inside a delta, as typed values; knows no arrays, no files and no models.

Reading believes nothing: every field is there, of its type, and within its bounds, or a DeltaError names it.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bitfit.data.task import Task, is_text
from bitfit.delta.storage import MOST_AXES, is_counts, parse_json
from bitfit.errors import DataError, DeltaError, RequestError
from bitfit.methods.selection import HeadMode

FORMAT = 1
FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
PARAMETER = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
PART = re.compile(r"[A-Za-z0-9_-]*")

Extent = Literal["all", "range", "indices"]
Settings = Mapping[str, Any]  # JSON values


@dataclass(frozen=True)
class SlotLine:
    """How the document speaks of one slot; of a whole parameter it gives the name alone."""

    name: str
    part: str = ""  # tells slots of one parameter apart
    extent: Extent = "all"
    shape: tuple[int, ...] = ()  # the parameter's, where the slot is a part of it
    span: tuple[int, int] = (0, 0)  # of a range: first and one past the last flat element
    inert: bool = False
    in_head: bool = False

    @property
    def key(self) -> str:
        """The name of the tensor that holds the slot's values."""
        return f"{self.name}:{self.part}" if self.part else self.name

    def to_json(self) -> dict[str, Any]:
        """The line with what is usual left out: a file of 100 KB has 50 of them."""
        line: dict[str, Any] = {"name": self.name}
        if self.part:
            line["part"] = self.part
        if self.extent != "all":
            line |= {
                "shape": list(self.shape),
                self.extent: list(self.span) if self.extent == "range" else True,
            }
        return line | {flag: True for flag in ("inert", "in_head") if getattr(self, flag)}

    @classmethod
    def from_json(cls, line: Any) -> "SlotLine":
        """The slot that a line speaks of."""
        allowed = {"name", "part", "shape", "range", "indices", "inert", "in_head"}
        _require(isinstance(line, dict) and "name" in line and set(line) <= allowed, "slot", line)
        name, part = line["name"], line.get("part", "")
        _require(isinstance(name, str) and bool(PARAMETER.fullmatch(name)), "parameter name", name)
        _require(isinstance(part, str) and bool(PART.fullmatch(part)), "part of a parameter", part)
        flags = {flag: line[flag] for flag in ("indices", "inert", "in_head") if flag in line}
        _require(all(flag is True for flag in flags.values()), "slot", line)
        extent: Extent = "range" if "range" in line else "indices" if "indices" in line else "all"
        parts = {"range", "indices", "shape"} & set(line)
        _require(parts == ({"shape", extent} if extent != "all" else set()), "slot", line)
        shape, span = line.get("shape", []), line.get("range", [0, 0])
        _require(is_counts(shape) and len(shape) <= MOST_AXES, "slot", line)
        _require(is_counts(span) and len(span) == 2 and span[0] <= span[1], "slot", line)
        return cls(name, part, extent, tuple(shape), (span[0], span[1]), "inert" in line, "in_head" in line)


@dataclass(frozen=True)
class Document:
    """Everything that a delta says beside its values."""

    backbone: str
    fingerprint: str
    method: str
    head_mode: HeadMode
    slots: tuple[SlotLine, ...]
    task: Task
    scores: Mapping[str, Mapping[str, float]]
    settings: Settings
    versions: Mapping[str, str]

    def to_text(self) -> str:
        """The document as JSON: sorted keys and no blanks, so that equal documents are equal bytes."""
        fields = {
            "format": FORMAT,
            "backbone": {"name": self.backbone, "fingerprint": self.fingerprint},
            "method": self.method,
            "head": self.head_mode,
            "slots": [slot.to_json() for slot in self.slots],
            "task": self.task.to_json(),
            "scores": {split: dict(scores) for split, scores in self.scores.items()},
            "settings": dict(self.settings),
            "versions": dict(self.versions),
        }
        try:
            return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DeltaError(f"The scores or settings are no JSON: {error}.") from error

    @classmethod
    def from_text(cls, text: str) -> "Document":
        """The document that a file holds, or a DeltaError that names the field that is wrong."""
        fields = parse_json(text)
        _require(isinstance(fields, dict), "document", fields)
        _check_format(fields.pop("format", None))
        _require(set(fields) == _FIELDS, "set of fields", sorted(fields))
        backbone = fields["backbone"]
        _require(isinstance(backbone, dict) and set(backbone) == {"name", "fingerprint"}, "backbone", backbone)
        _require(is_text(backbone["name"]), "backbone's name", backbone["name"])
        _require(_is_fingerprint(backbone["fingerprint"]), "fingerprint", backbone["fingerprint"])
        _require(is_text(fields["method"]), "method", fields["method"])
        _require(fields["head"] in get_args(HeadMode), "head", fields["head"])
        _require(isinstance(fields["slots"], list), "list of slots", fields["slots"])
        _require(_is_mapping_of(fields["scores"], _is_scores), "table of scores", fields["scores"])
        _require(isinstance(fields["settings"], dict), "table of settings", fields["settings"])
        _require(_is_mapping_of(fields["versions"], is_text), "table of versions", fields["versions"])
        return cls(
            backbone["name"],
            backbone["fingerprint"],
            fields["method"],
            fields["head"],
            tuple(SlotLine.from_json(line) for line in fields["slots"]),
            task_from_json(fields["task"]),
            fields["scores"],
            fields["settings"],
            fields["versions"],
        )


_FIELDS = {"backbone", "method", "head", "slots", "task", "scores", "settings", "versions"}


def _require(holds: bool, what: str, value: Any) -> None:
    if not holds:
        raise DeltaError(f"Its document has no proper {what}: found {str(value)[:120]!r}.")


def _check_format(number: Any) -> None:
    _require(type(number) is int and number >= 0, "format number", number)
    if number < FORMAT:
        raise DeltaError(
            f"It has format {number}, older than format {FORMAT}, which this bitfit reads. "
            "Train it again, or read it with the bitfit that wrote it."
        )
    if number > FORMAT:
        raise DeltaError(
            f"It has format {number}, newer than format {FORMAT}, the newest that this bitfit reads. "
            "Install a newer bitfit."
        )


def task_from_json(value: Any) -> Task:
    """The task, with every field of its type and within its bounds."""
    try:
        task = Task.from_json(value)
    except (DataError, RequestError, TypeError, ValueError) as error:
        raise DeltaError(f"Its document has no proper task: {str(error)[:200]}") from error
    if problem := task.labels_problem:
        raise DeltaError(f"Its document has no proper task: {problem[:200]}")
    return task


def check_calibration(settings: Settings, task: Task) -> None:
    """An older file has none; names that a newer one adds are passed over."""
    calibration = settings.get("calibration", {})
    value: Any = calibration.get("temperature", 1.0) if isinstance(calibration, dict) else None
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise DeltaError(f"A calibration has a temperature above 0; found {calibration!r:.80}.")
    least: Any = calibration.get("threshold", 0.0)
    if type(least) not in (int, float) or not 0 <= least <= 1:
        raise DeltaError(f"A calibration has a threshold from 0 to 1; found {calibration!r:.80}.")
    _check_thresholds(calibration.get("thresholds"), task)


def _check_thresholds(values: Any, task: Task) -> None:
    """Those of labels."""
    if values is None:
        return
    proper = isinstance(values, list) and all(type(each) in (int, float) and 0 < each < 1 for each in values)
    if task.kind != "labels" or not proper or len(values) != len(task.labels):
        raise DeltaError(f"Thresholds are one number between 0 and 1 for each label; found {values!r:.80}.")


def _is_fingerprint(value: Any) -> bool:
    return isinstance(value, str) and bool(FINGERPRINT.fullmatch(value))


def _is_mapping_of(value: Any, proper: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(is_text(key) and proper(item) for key, item in value.items())


def _is_scores(value: Any) -> bool:
    return _is_mapping_of(value, lambda score: type(score) in (int, float))
