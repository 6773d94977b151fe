"""A head starts where a linear model on frozen features has it, or at the classes' frequencies, or anywhere."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import bitfit
from bitfit import TrainConfig
from bitfit.backbone.heads import Head
from bitfit.data.examples import TaskData
from bitfit.errors import RequestError
from bitfit.methods.method import Method
from bitfit.training import head_start
from bitfit.training.recipe import Recipe
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not

STILL = TrainConfig(  # nothing moves: the start is left
    batch_size=8, epochs=1, learning_rate=1e-9, precision="fp32", few_shot="off"
)


def on_mean(kind: str = "class", train: int = 60) -> TaskData:
    data = tiny_data(kind, train=train)
    return replace(data, task=replace(data.task, pool="mean"))


def trained(data: TaskData, config: TrainConfig = STILL, method: str | Method = "bitfit") -> bitfit.Run:
    return bitfit.train(tiny_backbone("bert"), data, method, config, baselines=False)


def settled(data: TaskData, config: TrainConfig = STILL, method: Method | None = None) -> str:
    recipe = Recipe.of(tiny_backbone("bert"), data, method or Method.parse("bitfit"), [config])
    return recipe.configs[0].head_start


def loss(run: bitfit.Run) -> float:
    return float(run.history[0]["train"]["loss"])


def test_a_probes_head_knows_the_task_before_the_first_step() -> None:
    data = on_mean()
    by_probe, at_random = (trained(data, replace(STILL, head_start=way)) for way in ("probe", "random"))
    assert loss(by_probe) < loss(at_random)
    again = trained(data, replace(STILL, head_start="probe", seed=7))  # of another seed
    for name in ("classifier.weight", "classifier.bias"):
        assert again.delta.values[name] == pytest.approx(by_probe.delta.values[name], abs=1e-6)


def test_a_numbers_head_starts_as_ridge_has_it() -> None:
    data = on_mean("number")
    errors = {way: loss(trained(data, replace(STILL, head_start=way))) for way in ("probe", "random")}
    assert errors["probe"] < errors["random"]
    assert errors["probe"] <= np.var(data.splits["train"].labels) * 1.05


def test_its_answers_are_the_linear_models() -> None:
    data, backbone = on_mean(), tiny_backbone("bert")
    values = head_start.values(replace(STILL, head_start="probe"), backbone, plain(backbone), data, lambda text: None)
    features = head_start.frozen_features(backbone, data.splits["train"], STILL, lambda text: None)
    answers = features @ values["classifier.weight"].numpy().T + values["classifier.bias"].numpy()
    right = (answers.argmax(1) == data.splits["train"].labels).mean()
    assert right >= max(np.bincount(data.splits["train"].labels)) / 60


def test_a_class_that_train_lacks_is_no_answer() -> None:
    data = on_mean()
    wider = replace(data, task=data.task.with_labels(("no", "yes", "never")))
    values = of_wider(wider)
    assert values["classifier.bias"].argmin() == 2
    assert torch.all(values["classifier.weight"][2] == 0)
    assert values["classifier.weight"].shape == (3, 32)


def of_wider(data: TaskData) -> Mapping[str, torch.Tensor]:
    backbone = tiny_backbone("bert")
    return head_start.values(replace(STILL, head_start="probe"), backbone, plain(backbone, 3), data, lambda text: None)


def plain(backbone: bitfit.Backbone, outputs: int = 2) -> PreTrainedModel:
    return backbone.task_model(Head("class", outputs, "mean"))


def test_frequencies_are_the_answer_of_a_head_that_reads_nothing() -> None:
    data = tiny_data(train=60)
    data.splits["train"].labels[:50] = 1
    run = trained(data, replace(STILL, head_start="frequencies"))
    bias = run.delta.values["classifier.bias"]
    ones = (data.splits["train"].labels == 1).sum()
    assert bias[1] - bias[0] == pytest.approx(np.log((ones + 0.5) / (60 - ones + 0.5)), abs=1e-4)


def test_auto_is_the_frequencies_of_classes() -> None:
    assert settled(on_mean()) == settled(tiny_data()) == "frequencies"
    assert settled(on_mean("number")) == settled(tiny_data("tags")) == "random"
    assert settled(on_mean(), TrainConfig.paper(1e-3)) == "random"
    for head in ("bias", "frozen"):
        assert settled(on_mean(), method=Method.parse("bitfit", head)) == "random"  # type: ignore[arg-type]


def test_what_cannot_be_says_why() -> None:
    probe = replace(STILL, head_start="probe")
    with pytest.raises(RequestError, match="mean of a text's tokens"):
        settled(tiny_data(), probe)
    with pytest.raises(RequestError, match="kind 'tags'"):
        settled(tiny_data("tags"), probe)
    with pytest.raises(RequestError, match="head that trains as a whole"):
        settled(on_mean(), probe, Method.parse("bitfit", "bias"))
    with pytest.raises(RequestError, match="kind 'number'"):
        settled(on_mean("number"), replace(STILL, head_start="frequencies"))
    same = on_mean()
    same.splits["train"].labels[:] = 1
    with pytest.raises(RequestError, match="two different labels"):
        settled(same, probe)
    with pytest.raises(RequestError, match="head_start must be one of"):
        TrainConfig(head_start="warm")  # type: ignore[arg-type]


def test_a_random_start_is_unsaid_as_in_older_files() -> None:
    assert "head_start" not in replace(STILL, head_start="random").to_json()
    assert replace(STILL, head_start="probe").to_json()["head_start"] == "probe"


def test_labels_start_at_their_odds() -> None:
    data = on_mean("labels")
    assert settled(data) == "frequencies"
    there = data.splits["train"].labels.mean(axis=0)
    found = trained(data).delta.values["classifier.bias"]
    assert 1 / (1 + np.exp(-found)) == pytest.approx(there, abs=0.02)
