"""The settings of a run: checked all at once, numbers of any kind, and the paper's recipe."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import bitfit
from bitfit.errors import RequestError
from bitfit.methods.method import Method
from bitfit.training.config import TrainConfig, factor


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"seed": np.int64(3)}, 3),
        ({"batch_size": np.uint8(8)}, 8),
        ({"learning_rate": np.float32(0.5)}, 0.5),
        ({"learning_rate": torch.tensor(0.25)}, 0.25),
        ({"epochs": np.array(2)}, 2),
        ({"warmup": 0}, 0.0),
        ({"clip": np.float64(0)}, 0.0),
        ({"patience": np.int32(1)}, 1),
        ({"learning_rate": 1}, 1.0),
    ],
)
def test_numbers_of_any_kind_are_numbers(given: dict[str, object], kept: float) -> None:
    config = TrainConfig(**given)  # type: ignore[arg-type]
    name = next(iter(given))
    assert getattr(config, name) == kept
    assert type(getattr(config, name)) is type(kept)
    assert type(config.to_json()[name]) is type(kept)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 1.5}, "seed must be a whole number from 0"),
        ({"seed": np.float64(2)}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"epochs": "3"}, "epochs must be a whole number from 1 on, found '3'"),
        ({"batch_size": np.array([1, 2])}, "batch_size must be a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0 and below 10"),
        ({"learning_rate": True}, "learning_rate must be above 0"),
        ({"clip": -1.0}, "clip must be 0 or more, and finite"),
        ({"warmup": 1.0}, "warmup must be from 0 up to, not including, 1"),
        ({"seed": -1, "epochs": 0}, "epochs must be .*; seed must be"),
        ({"prefix_cache": 2}, "prefix_cache must be true, false or nothing"),
        ({"balance": "weight"}, "balance must be 'auto', 'none' or 'weights', found 'weight'"),
    ],
)
def test_what_is_no_such_number_is_refused_with_the_rule(given: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        TrainConfig(**given)  # type: ignore[arg-type]


def test_settings_come_back_from_a_file_of_any_version() -> None:
    config = TrainConfig(learning_rate=0.5, balance="weights", few_shot="on", prefix_cache=True)
    assert TrainConfig.from_json({**config.to_json(), "run": "of another kind"}) == config
    plain = TrainConfig(balance="none", few_shot="off")
    assert not {"balance", "few_shot", "prefix_cache"} & set(plain.to_json())
    assert TrainConfig.from_json(plain.to_json()) == plain


def test_the_papers_recipe_is_what_is_published() -> None:
    published = Path(bitfit.__file__).parent / "experiment" / "published.toml"
    recipe = tomllib.loads(published.read_text(encoding="utf-8"))["recipe"]
    config = TrainConfig.paper()
    assert {name: getattr(config, name) for name in recipe} == recipe
    assert set(recipe) == {"batch_size", "epochs", "schedule", "warmup", "clip", "weight_decay"}


def test_the_papers_rate_is_the_same_at_every_step() -> None:
    config = TrainConfig.paper(learning_rate=4e-4, seed=2)
    assert (config.learning_rate, config.seed) == (4e-4, 2)
    assert {factor(config, step, 7) for step in range(7)} == {1.0}


def test_the_defaults_are_read_without_torch() -> None:
    code = "import sys, bitfit.training.config as config; config.TrainConfig.paper(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("examples", "classes", "batch_size", "epochs"),
    [
        (0, 0, 16, 20),
        (64, 2, 16, 20),
        (500, 2, 16, 20),
        (1000, 2, 16, 11),
        (3000, 2, 16, 4),
        (67_000, 2, 16, 3),
        (3000, 0, 16, 4),
        (1000, 2, 50, 20),
        (2000, 47, 16, 15),
        (5000, 47, 16, 6),
    ],
)
def test_few_examples_are_seen_more_often_and_many_classes_too(
    examples: int, classes: int, batch_size: int, epochs: int
) -> None:
    method = Method.parse("bitfit")
    assert TrainConfig(batch_size=batch_size).settled(method, examples, classes).epochs == epochs
    assert TrainConfig(batch_size=batch_size, epochs=7).settled(method, examples, classes).epochs == 7


def test_a_rate_that_stays_level_is_lower_than_one_that_falls() -> None:
    bitfit, full = Method.parse("bitfit"), Method.parse("full")
    falling, level = TrainConfig(), TrainConfig.paper()
    assert (falling.settled(bitfit, 9).learning_rate, level.settled(bitfit, 9).learning_rate) == (4e-3, 1e-3)
    assert falling.settled(full, 9).learning_rate == level.settled(full, 9).learning_rate == 5e-5
    assert TrainConfig.paper(7e-4).settled(bitfit, 9).learning_rate == 7e-4


def test_long_runs_whose_epochs_nobody_gave_end_by_patience() -> None:
    bitfit = Method.parse("bitfit")
    assert TrainConfig().settled(bitfit, 500).patience == 5
    assert TrainConfig().settled(bitfit, 5_000).patience is None  # three epochs
    assert TrainConfig(epochs=20).settled(bitfit, 500).patience is None
    assert TrainConfig(patience=2).settled(bitfit, 500).patience == 2
