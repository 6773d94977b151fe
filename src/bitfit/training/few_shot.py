"""Few examples of a class: its texts are drawn together first, then a head is fitted.

The head is a logistic regression on what it reads of the texts by then; it trains on with the rest.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bitfit.backbone.load import Backbone
from bitfit.data.examples import Examples, TaskData
from bitfit.errors import RequestError
from bitfit.inference.outputs import batch_of, by_length
from bitfit.inference.pass_budget import Budget
from bitfit.methods.method import Method
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.encoder import packs
from bitfit.runtime.layout import Batch
from bitfit.runtime.row_model import RowModel
from bitfit.training.balance import class_counts
from bitfit.training.checkpoint import CheckpointWriter
from bitfit.training.config import TrainConfig
from bitfit.training.head_start import BIAS, WEIGHT, layer_of
from bitfit.training.loop import Job, Training
from bitfit.watcher import Watcher

FEWEST, MOST = 2, 16  # examples of each class; with 64 the usual training has steps enough (experiments/defaults)
STAGE = "contrast"  # the first one's name
RATE, STEPS = 1e-3, 20  # of the first stage: twice as many harm where the classes are hard (experiments/defaults)
FEWEST_A_BATCH, A_CLASS = 32, 4  # examples of a batch, in all and for each class
TEMPERATURE = 0.3  # of cosines
STRENGTH = 10.0  # sklearn's C, for features whose length is 1 on average
ROUNDS = 1000  # of the solver


# ---------------------------------------------------------------------- whether


def settled(config: TrainConfig, method: Method, backbone: Backbone, data: TaskData) -> TrainConfig:
    """The same with `few_shot` decided: "on" or "off". The head that it fits takes the place of any other start, so
    that whoever asks for one gets no stages unasked."""
    if config.few_shot == "off":
        return config
    problem = _problem(method, backbone, data)
    if config.few_shot == "on" and problem:
        raise RequestError(
            f"`TrainConfig(few_shot='on')` {problem} Leave it out, or say `TrainConfig(few_shot='off')`."
        )
    if config.few_shot == "on" and config.head_start not in ("auto", "random"):
        raise RequestError(
            "`TrainConfig(few_shot='on')` fits the head by itself; found "
            f"`TrainConfig(head_start={config.head_start!r})`. Leave one of them out."
        )
    if config.few_shot == "auto" and (problem or config.head_start != "auto" or not _are_few(data)):
        return replace(config, few_shot="off")
    return replace(config, few_shot="on", head_start="random")


def _are_few(data: TaskData) -> bool:
    counts = class_counts(data)
    return bool(counts.min() >= FEWEST and counts.max() <= MOST)


def _problem(method: Method, backbone: Backbone, data: TaskData) -> str:
    """Why the two stages cannot be; empty where they can."""
    task, train = data.task, data.splits["train"]
    if task.kind != "class":
        return f"needs classes, and '{task.name}' is a task of kind '{task.kind}'."
    if method.head_alone or not method.shares_a_pass or method.head != "full":
        return f"needs a method that trains vectors and the whole head; found '{method.name}', head '{method.head}'."
    if task.pool != "mean" or "pixels" in train.source or not packs(backbone.config):
        return "needs a head on the mean of a text's tokens: `DataOptions(pool='mean')` on a backbone of texts."
    if (class_counts(data) >= FEWEST).sum() < 2:
        return "needs two classes with two examples each."
    return ""


def note(data: TaskData) -> str:
    """What is done, and how to have it otherwise."""
    train, labels, stage = data.splits["train"], data.task.labels, stage_config(TrainConfig(), data)
    assert stage.epochs is not None
    steps = stage.epochs * math.ceil(len(train) / stage.batch_size)
    return (
        f"few-shot: {len(train):,} examples of {len(labels)} classes train in two stages: first texts of a class are "
        f"drawn together ({steps:,} steps), then a head is fitted and all trains on; "
        "`TrainConfig(few_shot='off')` leaves the first stage out"
    )


# ---------------------------------------------------------------------- the first stage


def stage_config(config: TrainConfig, data: TaskData) -> TrainConfig:
    """How the first stage trains."""
    examples = len(data.splits["train"])
    batch = min(examples, max(FEWEST_A_BATCH, A_CLASS * len(data.task.labels)))
    epochs = math.ceil(STEPS / math.ceil(examples / batch))
    return replace(
        config,
        learning_rate=RATE,
        batch_size=batch,
        epochs=epochs,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.0,
        patience=None,
        balance="none",
    )


def stage_data(data: TaskData) -> TaskData:
    """What the first stage reads: there is no head yet whose answers could be scored."""
    return replace(data, splits={"train": data.splits["train"]})


class Contrast(Training):
    """Texts of a class are drawn together, and away from others of their pass."""

    def __init__(self, job: Job, watcher: Watcher, writer: CheckpointWriter | None = None) -> None:
        super().__init__(job, watcher, writer)
        self.chosen.values = []  # there are no answers to remember

    def _losses(
        self, batch: Batch, values: Mapping[str, Tensor], labels: Tensor, indices: list[int]
    ) -> tuple[Tensor, Tensor]:
        del indices
        summaries = self.job.model.summaries(batch, values, self.draws)
        bounds = batch.layout.sequences.bounds
        return summaries, torch.stack([contrast(summaries[a:b], labels[a:b]) for a, b in pairwise(bounds)])


def contrast(summaries: Tensor, labels: Tensor) -> Tensor:
    """The supervised contrastive loss (Khosla and others, 2020) of one row's texts, summed: each text tells those of
    its class from all others, by their cosines."""
    unit = functional.normalize(summaries.float(), dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    likely = (unit @ unit.t() / TEMPERATURE).masked_fill(itself, -1e9).log_softmax(1)
    alike = (labels[:, None] == labels[None]) & ~itself
    return -((likely * alike).sum(1) / alike.sum(1).clamp(min=1)).sum()


# ---------------------------------------------------------------------- the head


def with_fitted_head(row: Tensor, theta: ThetaMap, model: RowModel, data: TaskData, budget: Budget) -> Tensor:
    """A row, (P,), with the head that a logistic regression on its features finds."""
    train = data.splits["train"]
    values = theta.tensors(row[None])
    features = budget.fit(lambda most: _features(model, values, train, most))
    found = _logistic(features, train.labels, len(data.task.labels))
    changed = row.clone()
    for slot, part in zip(theta.slots, changed.split(theta.sizes), strict=True):
        if slot.name in found:
            part.copy_(torch.from_numpy(found[slot.name].ravel()))
    return changed


def _features(model: RowModel, values: Mapping[str, Tensor], examples: Examples, budget: int) -> NDArray[np.float32]:
    """What the head reads of each text, without dropout, (examples, size)."""
    features = np.empty((len(examples), model.width), np.float32)
    for which in by_length(examples, budget):
        with torch.no_grad():
            batch = batch_of(examples, which, (len(which),), model.device)
            features[which] = model.summaries(batch, values).float().cpu().numpy()
    return features


def _logistic(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> dict[str, NDArray[np.float64]]:
    """The head's parameters by name."""
    from sklearn.linear_model import LogisticRegression

    length = np.linalg.norm(features, axis=1).mean()
    fitted = LogisticRegression(C=STRENGTH, max_iter=ROUNDS).fit(features / length, labels)
    weight, bias = layer_of(fitted, classes)
    return {WEIGHT: weight / length, BIAS: bias}
