"""What each bias term would bring: its gradient, Fisher information or change.

An example is a row of the matrix, so one pass gives the gradient of each example by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitfit.backbone.task_model import head_start
from bitfit.data.examples import TaskData
from bitfit.inference.outputs import batch_of, labels_of, losses
from bitfit.methods.budget import Scored, affordable_terms
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.row_model import RowModel
from bitfit.training import order
from bitfit.training.config import TrainConfig
from bitfit.training.loop import Job, Training
from bitfit.watcher import Watcher

ROWS_A_PASS = 16
EXAMPLES = 512  # that the scores are taken on


@dataclass(frozen=True, eq=False)
class Sample:
    """A model with its biases laid out as a row, and examples to try them on."""

    model: RowModel
    theta: ThetaMap  # of the method `bitfit`
    data: TaskData
    start: Tensor  # (P,)
    config: TrainConfig  # of the short run; its seed chooses the examples

    @classmethod
    def of(cls, plain: PreTrainedModel, model: RowModel, data: TaskData, config: TrainConfig) -> "Sample":
        """All biases of a model, ready to be tried on data; `plain` is the task model as transformers has it."""
        theta = ThetaMap(with_whole_head(select(plain, "bitfit"), plain), plain, device=model.device)
        return cls(model, theta, data, theta.starting_row(head_start(plain, config.seed)), config)

    @cached_property
    def which(self) -> NDArray[np.int64]:
        """Examples of the training data, the first of a shuffle."""
        return order.shuffled(self.config.seed, 0, len(self.data.splits["train"]))[:EXAMPLES]


def term_scores(sample: Sample, plain: nn.Module, *, short_run: bool = True) -> list[Scored]:
    """Every term of the encoder that can matter, in the model's order, with its scores; `plain` is the task model."""
    gradient, fisher = _gradients(sample)
    change = _change(sample) if short_run else None
    spans = _spans(sample.theta)
    scored = []
    for term in affordable_terms(plain):
        span = slice(*spans[term.name, term.part])
        moved = None if change is None else float(change[span].mean())
        scored.append(Scored(term, float(gradient[span].mean()), float(fisher[span].mean()), moved))
    return scored


def _gradients(sample: Sample) -> tuple[Tensor, Tensor]:
    """The absolute gradient of the mean loss, and the mean squared gradient of single examples; (P,) each."""
    total, squares = torch.zeros_like(sample.start), torch.zeros_like(sample.start)
    for which in _passes(sample):
        rows = sample.start.repeat(len(which), 1).requires_grad_()
        train, kind = sample.data.splits["train"], sample.data.task.kind
        device = sample.model.device
        batch = batch_of(train, which, (1,) * len(which), device)
        answers = sample.model.answers(batch, sample.theta.tensors(rows))
        loss = losses(kind, answers, labels_of(train, which, kind == "tags", device), batch.layout)
        (loss.sums / loss.counts.clamp(min=1)).sum().backward()
        assert rows.grad is not None
        total += rows.grad.sum(0)
        squares += rows.grad.square().sum(0)
    count = len(sample.which)
    return (total / count).abs(), squares / count


def _passes(sample: Sample) -> Iterator[NDArray[np.int64]]:
    """As many examples at once as the model takes rows."""
    many = sample.model.takes_rows(slot.name for slot in sample.theta.slots)
    size = ROWS_A_PASS if many else 1
    which = sample.which
    return (which[start : start + size] for start in range(0, len(which), size))


def _change(sample: Sample) -> Tensor:
    """How far each number moves in one epoch over the sample, in the loop that trains everything; (P,)."""
    train = sample.data.splits["train"].only(sample.which)
    data = replace(sample.data, splits={"train": train}, notes=())
    config = replace(sample.config, epochs=1, patience=None)
    training = Training(Job(sample.model, sample.theta, data, (config,), sample.start[None].clone()), Watcher())
    training.run()
    return (training.best[0] - sample.start).abs()


def _spans(theta: ThetaMap) -> dict[tuple[str, str], tuple[int, int]]:
    """Where each slot lies in a row, by parameter and part."""
    ends = np.cumsum(theta.sizes).tolist()
    return {
        (slot.name, slot.part): (end - size, end)
        for slot, size, end in zip(theta.slots, theta.sizes, ends, strict=True)
    }
