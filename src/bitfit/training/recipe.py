"""What is asked of a training, as a value.

A checkpoint and a finished file carry what was asked, so that a run is gone on from, or known to be finished, only
where all of it is the same.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from bitfit.backbone.device import Device, chosen_device
from bitfit.backbone.load import Backbone
from bitfit.data.examples import TaskData, digest
from bitfit.methods.method import Method
from bitfit.runtime.precision import Precision, compute_format, surroundings
from bitfit.training import balance, few_shot, head_start
from bitfit.training.checkpoint import Checkpoints, CheckpointWriter
from bitfit.training.config import TrainConfig
from bitfit.training.race import rates_to_race
from bitfit.watcher import Watcher


@dataclass(frozen=True, eq=False)
class Recipe:
    """A method on a backbone, the data of a task, and the settings of each row."""

    backbone: Backbone
    data: TaskData
    method: Method
    configs: tuple[TrainConfig, ...]  # learning rates settled
    rates: tuple[tuple[float, ...], ...]  # that race for each of them; none where none do

    @classmethod
    def of(cls, backbone: Backbone, data: TaskData, method: Method, configs: Sequence[TrainConfig]) -> "Recipe":
        """Each row's settings are what suits the method and the data where none are given; the rate is raced for where
        the method's runs share a pass and the training is long enough to pay for it."""
        examples, classes = len(data.splits["train"]), len(data.task.labels)
        given = [balance.settled(few_shot.settled(config, method, backbone, data), data) for config in configs]
        given = [head_start.settled(config, method, data) for config in given]
        settled = tuple(config.settled(method, examples, classes) for config in given)
        raced = tuple(
            rates_to_race(asked, config, examples) if method.shares_a_pass and config.few_shot == "off" else ()
            for asked, config in zip(given, settled, strict=True)
        )
        return cls(backbone, data, method, settled, raced)

    def only(self, row: int) -> "Recipe":
        """One of the rows."""
        return replace(self, configs=(self.configs[row],), rates=(self.rates[row],))

    def asked(self) -> dict[str, Any]:
        """All that decides a run's result, on one machine and with the same packages, as plain values."""
        return {
            "model": f"{self.backbone.name} ({self.backbone.fingerprint})",
            "method": self.method.name,
            "head": self.method.head,
            "task": json.loads(json.dumps(self.data.task.to_json())),  # tuples as JSON has them: lists
            "data": {name: digest(split) for name, split in sorted(self.data.splits.items())},
            "rows": [config.to_json() for config in self.configs],
            **({"rates": [list(rates) for rates in self.rates]} if any(self.rates) else {}),
        }


def key(asked: Mapping[str, Any]) -> str:
    """A short name of what is asked: the same for the same alone."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class ResumableRequest:
    """What is asked, and where its checkpoints are."""

    asked: Mapping[str, Any]
    key: str
    checkpoints: Checkpoints | None  # of this training
    all_checkpoints: Checkpoints | None

    @classmethod
    def of(cls, asked: Mapping[str, Any], checkpoints: Checkpoints | None) -> "ResumableRequest":
        """No checkpoints are written where they are wanted every 0 seconds."""
        used = checkpoints if checkpoints and checkpoints.every else None
        return cls(asked, key(asked), used, used)

    def within(self, name: int | str) -> "ResumableRequest":
        """One of several trainings that follow one another."""
        return replace(self, checkpoints=self.checkpoints and self.checkpoints.within(str(name)))

    def device(self, asked: Device) -> torch.device:
        """Where the model runs: `auto` looks for a GPU, but a run that goes on stays on what it began with."""
        return chosen_device(self._before.get("device", "cpu") if self._before and asked == "auto" else asked)

    def compute(self, precision: Precision, device: torch.device) -> torch.dtype:
        """The weights' format: `auto` asks the device, but a run that goes on stays with what it began with."""
        wanted = self._before["compute"] if self._before and precision == "auto" else precision
        return compute_format(wanted, device)

    @cached_property
    def _before(self) -> dict[str, Any]:
        """The surroundings in which a run that goes on began; empty where none does."""
        about = self.all_checkpoints.maybe_get_about() if self.all_checkpoints else None
        return dict(about["surroundings"]) if about else {}

    def maybe_get_writer(self, compute: torch.dtype, device: torch.device, watcher: Watcher) -> CheckpointWriter | None:
        """What writes the checkpoints, and holds their folder until it is closed; None where there are none."""
        if self.checkpoints is None:
            return None
        return CheckpointWriter(self.checkpoints, self.asked, surroundings(compute, device), watcher.note)
