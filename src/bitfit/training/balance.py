"""Weights of classes in the training loss, so that rare ones count: when, and which."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.data.examples import TaskData
from bitfit.data.read.remarks import UNBALANCED
from bitfit.errors import RequestError
from bitfit.training.config import TrainConfig

MOST_LISTED = 3


def settled(config: TrainConfig, data: TaskData) -> TrainConfig:
    """The same with `balance` decided: "none" or "weights"."""
    task = data.task
    if config.balance == "weights" and task.kind != "class":
        raise RequestError(
            f"`TrainConfig(balance='weights')` weighs classes, and '{task.name}' is a task of kind '{task.kind}'. "
            "Leave it out."
        )
    if config.balance != "auto":
        return config
    return replace(config, balance="weights" if _is_unbalanced(data) else "none")


def _is_unbalanced(data: TaskData) -> bool:
    """Has one class most of the examples? With several that are merely larger, weights brought nothing
    (experiments/defaults)."""
    if data.task.kind != "class":
        return False
    counts = class_counts(data)
    return bool(counts.max() > UNBALANCED * counts.sum())


def class_counts(data: TaskData) -> NDArray[np.int64]:
    """How many examples of each class there are in train, (classes,)."""
    labels = data.splits["train"].labels
    return np.bincount(labels[labels >= 0], minlength=len(data.task.labels))


def weights_of_rows(configs: Sequence[TrainConfig], data: TaskData, device: torch.device) -> Tensor | None:
    """What each row's loss of an example is multiplied with, (rows, classes), by the example's class; None where no
    row has weights."""
    if not any(config.balance == "weights" for config in configs):
        return None
    weights = class_weights(class_counts(data))
    plain = np.ones_like(weights)
    rows = np.stack([weights if config.balance == "weights" else plain for config in configs])
    return torch.from_numpy(rows.astype(np.float32)).to(device)


def class_weights(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """One over a class's share among the classes there are, (classes,): their mean over the examples is 1, so that the
    learning rate means the same with them."""
    shares: NDArray[np.float64] = counts.clip(min=1) / counts.sum()
    return np.asarray(1 / (shares * (counts > 0).sum()))


def note(data: TaskData) -> str:
    """What is weighed, and why."""
    task, counts = data.task, class_counts(data)
    weights = class_weights(counts)
    present = [index for index in np.argsort(counts, kind="stable") if counts[index]]
    listed = ", ".join(f"{task.labels[i]} {weights[i]:.2g}" for i in present[:MOST_LISTED])
    more = f", and {len(present) - MOST_LISTED} more" if len(present) > MOST_LISTED else ""
    largest, rarest = (f"{counts[i]:,} are '{task.labels[i]}'" for i in (present[-1], present[0]))
    return (
        f"balance: of {counts.sum():,} examples {largest} and {rarest}, so each class weighs the same in the loss of "
        f"training (an example of {listed}{more}), not in that of validation. Rare classes are found more often, and "
        "accuracy may fall; `TrainConfig(balance='none')` gives each example the same weight"
    )
