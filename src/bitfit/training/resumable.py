"""A request while it is being done: where its checkpoints are, and what a run that goes on began with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from bitfit.backbone.device import Device, chosen_device
from bitfit.runtime.environment import surroundings
from bitfit.runtime.precision import Precision, compute_format
from bitfit.training.checkpoint import Checkpoints, CheckpointWriter
from bitfit.training.run_key import key
from bitfit.watcher import Watcher


@dataclass(frozen=True, eq=False)
class ResumableRequest:
    """What is asked for, and where it is kept while it is being done."""

    asked: Mapping[str, Any]
    key: str
    checkpoints: Checkpoints | None  # of this training
    all_checkpoints: Checkpoints | None

    @classmethod
    def of(cls, asked: Mapping[str, Any], checkpoints: Checkpoints | None) -> "ResumableRequest":
        """No checkpoints are written where they are wanted every 0 seconds."""
        used = checkpoints if checkpoints and checkpoints.every else None
        return cls(asked, key(asked), used, used)

    def part(self, name: int | str) -> "ResumableRequest":
        """One of several trainings that follow one another."""
        return replace(self, checkpoints=self.checkpoints and self.checkpoints.part(str(name)))

    def device(self, asked: Device) -> torch.device:
        """Where the model runs: `auto` looks for a GPU, but a run that goes on keeps to what it began with."""
        return chosen_device(self._before.get("device", "cpu") if self._before and asked == "auto" else asked)

    def compute(self, precision: Precision, device: torch.device) -> torch.dtype:
        """The weights' format: `auto` asks the device, but a run that goes on keeps to what it began with."""
        kept = self._before["compute"] if self._before and precision == "auto" else precision
        return compute_format(kept, device)

    @cached_property
    def _before(self) -> dict[str, Any]:
        """The surroundings in which a run that goes on began; empty where none does."""
        about = self.all_checkpoints.maybe_get_about() if self.all_checkpoints else None
        return dict(about["surroundings"]) if about else {}

    def keeper(self, compute: torch.dtype, device: torch.device, watcher: Watcher) -> CheckpointWriter | None:
        """Opens the checkpoints."""
        if self.checkpoints is None:
            return None
        return CheckpointWriter(self.checkpoints, self.asked, surroundings(compute, device), watcher.note)
