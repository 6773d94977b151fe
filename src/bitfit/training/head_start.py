"""Where a head starts: at random, at its classes' frequencies, or where a linear model has it.

The linear model is that of the frozen probe beside a run, with one strength of regularization. It needs a head that is
one linear layer on the mean of a text's tokens, since its features are those means.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from bitfit.backbone.heads import head_names
from bitfit.backbone.load import Backbone
from bitfit.data.examples import TaskData
from bitfit.data.task import Task
from bitfit.errors import RequestError
from bitfit.methods.method import Method
from bitfit.runtime.row_model import positions_per_token
from bitfit.training.baselines import PROBE, Say, alive, frozen_features, labelled, linear_model, sample
from bitfit.training.config import TrainConfig

STRENGTH = 0.003  # sklearn's C of standardized features; of ridge 1 / alpha
UNSEEN = -5.0  # beside the lowest bias, that of a class without examples
WEIGHT, BIAS = "classifier.weight", "classifier.bias"  # of a head on the mean


def settled(config: TrainConfig, method: Method, data: TaskData) -> TrainConfig:
    """The same with `head_start` decided: "probe", "frequencies" or "random". A probe's start was no better in the end
    (experiments/defaults), so it must be asked for."""
    task = data.task
    if config.head_start == "probe" and (problem := _problem(method, data)):
        raise RequestError(
            f"`TrainConfig(head_start='probe')` needs {problem}. Leave it out, or say "
            "`TrainConfig(head_start='random')`."
        )
    counted = task.kind in ("class", "labels")
    if config.head_start == "frequencies" and not counted:
        kind = f"'{task.name}' is a task of kind '{task.kind}'"
        raise RequestError(f"`TrainConfig(head_start='frequencies')` needs classes or labels; {kind}.")
    if config.head_start != "auto":
        return config
    return replace(config, head_start="frequencies" if counted and method.head == "full" else "random")


def _problem(method: Method, data: TaskData) -> str:
    """What a probe's start lacks; empty where it can be."""
    task, train = data.task, data.splits["train"]
    if task.kind not in ("class", "number"):
        return f"classes or numbers of whole texts, and '{task.name}' is a task of kind '{task.kind}'"
    if task.pool != "mean" or "pixels" in train.source:
        return "a head on the mean of a text's tokens, as `DataOptions(pool='mean')` makes it"
    if method.head != "full":
        return f"a head that trains as a whole, and found head='{method.head}'"
    if len(np.unique(labelled(train).labels)) < 2:
        return "two different labels in train"
    return ""


def values(
    config: TrainConfig, backbone: Backbone, model: PreTrainedModel, data: TaskData, say: Say
) -> dict[str, Tensor]:
    """What a settled start gives to parameters of the model's head; those that it does not name are drawn."""
    if config.head_start == "probe":
        return _of_probe(backbone, data, config, say)
    if config.head_start == "frequencies":
        return _of_frequencies(model, data)
    return {}


def _of_frequencies(model: PreTrainedModel, data: TaskData) -> dict[str, Tensor]:
    """The biases of classes that are as frequent as in train: the logarithms of their shares, their mean 0. Of labels
    the logarithms of their odds."""
    name = head_names(model)[-1]
    labels, many = labelled(data.splits["train"]).labels, len(data.task.labels)
    if not name.endswith(".bias") or model.get_parameter(name).shape != (many,):
        return {}
    if data.task.kind == "labels":
        there = (labels > 0).sum(axis=0)
        return {name: torch.from_numpy(np.log((there + 0.5) / (len(labels) - there + 0.5))).float()}
    logs = np.log(np.bincount(labels, minlength=many) + 0.5)
    return {name: torch.from_numpy(logs - logs.mean()).float()}


def _of_probe(backbone: Backbone, data: TaskData, config: TrainConfig, say: Say) -> dict[str, Tensor]:
    """What a linear model on the frozen features has; nothing where the features are not finite."""
    some = sample(labelled(data.splits["train"]), PROBE, positions_per_token(backbone.config))
    features = frozen_features(backbone, some, config, say)
    if not np.isfinite(features).all():
        return {}
    mean, spread = features.mean(0), alive(features.std(0))
    weight, bias = _fitted(data.task, (features - mean) / spread, some.labels)
    weight = weight / spread
    return {WEIGHT: torch.from_numpy(weight).float(), BIAS: torch.from_numpy(bias - weight @ mean).float()}


def _fitted(
    task: Task, features: NDArray[np.float32], labels: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A linear layer's weight, (outputs, size), and bias."""
    with warnings.catch_warnings():  # of a solver that ran out of rounds
        warnings.simplefilter("ignore")
        model = linear_model(task, STRENGTH).fit(features, labels)
    if task.kind == "number":
        return np.asarray(model.coef_, np.float64)[None], np.asarray([model.intercept_], np.float64)
    return layer_of(model, len(task.labels))


def layer_of(model: Any, many: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weight, (outputs, size), and the bias of a linear layer for so many classes, which answers as sklearn's
    logistic regression does."""
    lines, constants = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(model.classes_) == 2:  # one line between two classes: half of it for each
        lines, constants = (np.concatenate([-one, one]) / 2 for one in (lines, constants))
    weight, bias = np.zeros((many, lines.shape[1])), np.full(many, constants.min() + UNSEEN)
    weight[model.classes_], bias[model.classes_] = lines, constants
    return weight, bias
