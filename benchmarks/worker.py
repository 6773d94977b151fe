"""One measurement in a process of its own: takes a request, writes what it found to a file."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.plan import Request


def answer(request: Request) -> dict[str, Any]:
    """Do what the request asks for."""
    if request.system.loop == "limit":
        from benchmarks.limit import rates

        return {"gflops": rates()}
    return _trained(request)


def _trained(request: Request) -> dict[str, Any]:
    """Load, train, score. All imports come before memory is counted."""
    if request.system.loop == "engine":
        from benchmarks.systems.engine import measure
    else:
        from benchmarks.systems.trainer import measure
    from benchmarks.data import backbone_of, data_of, mean_attended
    from benchmarks.limit import operations_a_token
    from benchmarks.meter import Meter

    backbone = backbone_of(request)
    reading = time.monotonic()
    data = data_of(request, backbone)
    reading = time.monotonic() - reading
    attended = mean_attended(data.splits["train"].lengths)
    needed = operations_a_token(backbone.model, request.system.method, attended)
    meter = Meter(request.left_out)
    meter.ready()
    facts = dict(measure(request, backbone, data, meter))
    return {
        **meter.found(request.started, reading),
        **facts,
        "flop_per_token": needed,
        "train_examples": len(data.splits["train"]),
        "train_tokens": int(data.splits["train"].lengths.sum()),
        "validation_examples": len(data.splits["validation"]),
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(answer(Request.from_json(sys.argv[1]))))
