"""What a run is asked to do, as plain values: what tells one run from another, whoever asks.

A checkpoint and a finished file carry it, so that a run is gone on from, or known to be finished, only where all of
it is the same. Knows nothing of how a run is done.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bitfit.backbone.load import Backbone
from bitfit.data.examples import TaskData, digest
from bitfit.training.config import TrainConfig


def request(
    backbone: Backbone, data: TaskData, method: str, head: str, configs: Sequence[TrainConfig]
) -> dict[str, Any]:
    """All that decides a run's result, on one machine and with the same packages."""
    return {
        "model": f"{backbone.name} ({backbone.fingerprint})",
        "method": method,
        "head": head,
        "task": json.loads(json.dumps(data.task.to_json())),  # tuples as JSON has them: lists
        "data": {name: digest(split) for name, split in sorted(data.splits.items())},
        "rows": [config.to_json() for config in configs],
    }


def key(asked: Mapping[str, Any]) -> str:
    """A short name of a request: the same for the same request alone."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
