"""This engine: one run, a grid in one pass, or its runs one after another."""

from collections.abc import Mapping

from benchmarks.meter import Meter
from benchmarks.plan import GRID_RATES, GRID_SEEDS, Request
from bitfit.backbone.load import Backbone
from bitfit.backbone.memory import keep_freed_memory
from bitfit.data.examples import TaskData
from bitfit.runtime.precision import compute_format
from bitfit.training.config import TrainConfig
from bitfit.training.train import train_rows
from bitfit.watcher import Watcher


class Timed(Watcher):
    """Passes the end of each step on to a meter."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        """A step has ended."""
        self.meter.step(step, tokens)


def configs(request: Request) -> list[TrainConfig]:
    """One run's settings, or those of each run of the grid that is measured."""
    pairs = [(request.system.learning_rate, request.round)]
    if request.shape.kind == "grid":
        pairs = [(rate, seed) for rate in GRID_RATES for seed in GRID_SEEDS][: request.system.runs]
    return [
        TrainConfig(
            learning_rate=rate,
            seed=seed,
            batch_size=request.shape.batch,
            epochs=request.epochs or 1,
            precision=request.system.precision,
        )
        for rate, seed in pairs
    ]


def measure(request: Request, backbone: Backbone, data: TaskData, meter: Meter) -> Mapping[str, object]:
    """Train; gives validation accuracy after the last step, and what else is worth keeping."""
    keep_freed_memory()  # as the command line does
    wanted = configs(request)
    passes = [wanted] if request.system.together else [[config] for config in wanted]
    accuracies: list[float] = []
    for shared in passes:
        runs = train_rows(backbone, data, request.system.method, shared, watcher=Timed(meter), baselines=False)
        accuracies += [run.history[-1]["validation"]["accuracy"] for run in runs]
        meter.end_run()
    used = compute_format(request.system.precision)
    return {"accuracies": accuracies, "format": str(used).removeprefix("torch.")}
