"""Ranks the bias terms of a model by what they would bring to a task."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitfit.backbone.device import chosen_device
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.data.options import DataOptions
from bitfit.inference.task_data import Data, task_data
from bitfit.methods.budget import Measure, Scored, ranked
from bitfit.methods.method import Method
from bitfit.runtime.precision import compute_format, trusted
from bitfit.runtime.row_model import RowModel
from bitfit.training.config import TrainConfig
from bitfit.training.term_scores import Sample, term_scores
from bitfit.training.train import check_fit
from bitfit.watcher import Watcher


@dataclass(frozen=True, repr=False)
class Ranking:
    """The terms of a model, those that bring most first."""

    task: str
    by: Measure
    examples: int  # that the scores were taken on
    terms: tuple[Scored, ...]

    def __repr__(self) -> str:
        return f"Ranking({self.task!r} by {self.by} on {self.examples:,} examples: {len(self.terms)} terms)"


def rank(
    backbone: Backbone | str | Path,
    task: Data,
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    by: Measure = "gradient",
    short_run: bool = True,
    options: DataOptions | Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
) -> Ranking:
    """Terms by the gradient at the start, by Fisher information, or by the change after one epoch over a sample.

    The seed of the settings draws the head and the sample; the rest of them is for the short run.
    """
    backbone, method = as_backbone(backbone), Method.parse("bitfit")
    config = TrainConfig.of(config)
    check_fit(backbone, method)
    device = chosen_device(config.device)
    data = task_data(backbone, task, DataOptions.of(options))
    settled = config.settled(method, len(data.splits["train"]), len(data.task.labels))
    for note in data.notes:
        Watcher.of(watcher).note(note)
    head = data.task.head
    plain = backbone.task_model(head)
    compute = compute_format(trusted(settled.precision, backbone.config.model_type), device)
    model = RowModel(backbone.task_model(head), head, compute, device)
    sample = Sample.of(plain, model, data, settled)
    scores = term_scores(sample, plain, short_run=short_run or by == "change")
    return Ranking(data.task.name, by, len(sample.which), tuple(ranked(scores, by)))
