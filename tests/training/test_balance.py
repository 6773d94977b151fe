"""Weights of classes: equal for each class, of the training loss alone, each row's its own."""

from dataclasses import replace

import numpy as np
import pytest

import bitfit
from bitfit import TrainConfig
from bitfit.data.examples import TaskData
from bitfit.errors import RequestError
from bitfit.training.balance import class_weights
from tests.models import tiny_backbone
from tests.training.test_loop import DIFFERENT, Notes, assert_each_alone
from tests.training.tiny_task import tiny_data

STILL = TrainConfig(learning_rate=1e-9, batch_size=8, epochs=1, precision="fp32")


def rare_data(rare: int = 2) -> TaskData:
    """A tiny task whose 'yes' has so many examples in train."""
    data = tiny_data(train=40)
    train = data.splits["train"]
    yes, no = (np.flatnonzero(train.labels == label) for label in (1, 0))
    return replace(data, splits={**data.splits, "train": train.only(np.sort([*no, *yes[:rare]]))})


def test_each_class_weighs_the_same_and_an_example_1_on_average() -> None:
    counts = np.array([5, 2, 0, 1])
    weights = class_weights(counts)
    assert (weights * counts).sum() == pytest.approx(8)
    assert (weights * counts)[[0, 1, 3]] == pytest.approx(8 / 3)


@pytest.mark.slow
def test_a_row_with_weights_trains_beside_others_as_alone() -> None:
    configs = [replace(config, balance=("weights", "none")[i % 2]) for i, config in enumerate(DIFFERENT)]
    assert_each_alone(tiny_backbone("bert"), rare_data(), "bitfit", configs)


def test_weights_are_in_the_training_loss_and_not_in_that_of_validation() -> None:
    backbone, data = tiny_backbone("bert"), rare_data()
    plain, weighted = (
        bitfit.train(backbone, data, config=replace(STILL, balance=how)).history[0] for how in ("none", "weights")
    )
    assert weighted["validation"]["loss"] == pytest.approx(plain["validation"]["loss"], rel=1e-4)
    assert abs(weighted["train"]["loss"] - plain["train"]["loss"]) > 0.01


def test_classes_of_one_size_train_the_same_to_the_bit_with_weights() -> None:
    backbone, data = tiny_backbone("bert"), tiny_data(train=40)
    train = data.splits["train"]
    least = min(np.bincount(train.labels))
    even = [np.flatnonzero(train.labels == label)[:least] for label in (0, 1)]
    data = replace(data, splits={**data.splits, "train": train.only(np.sort(np.concatenate(even)))})
    plain, weighted = (
        bitfit.train(backbone, data, config=replace(DIFFERENT[0], balance=how)) for how in ("none", "weights")
    )
    assert all(weighted.delta.values[key].tobytes() == value.tobytes() for key, value in plain.delta.values.items())


def test_what_is_weighed_is_said_and_kept() -> None:
    backbone, notes = tiny_backbone("bert"), Notes()
    run = bitfit.train(backbone, rare_data(), config=STILL, balance="weights", watcher=notes)
    (told,) = [note for note in notes.notes if note.startswith("balance")]
    assert "are 'no' and 2 are 'yes', so each class weighs the same in the loss of training (an example of yes " in told
    assert "not in that of validation" in told
    assert run.delta.settings["balance"] == "weights"


def test_auto_weighs_where_one_class_has_most_of_the_examples() -> None:
    backbone = tiny_backbone("bert")
    rare, even = (bitfit.train(backbone, data, config=STILL) for data in (rare_data(2), rare_data(18)))
    assert rare.config.balance == "weights"
    assert even.config.balance == "none"
    assert bitfit.train(backbone, tiny_data("number"), config=STILL).config.balance == "none"


def test_without_weights_a_file_says_what_it_said_before() -> None:
    notes = Notes()
    run = bitfit.train(tiny_backbone("bert"), rare_data(), config=STILL, balance="none", watcher=notes)
    assert "balance" not in run.delta.settings
    assert not any(note.startswith("balance") for note in notes.notes)


def test_numbers_have_no_classes_to_weigh() -> None:
    with pytest.raises(RequestError, match="weighs classes, and 'tiny-number' is a task of kind"):
        bitfit.train(tiny_backbone("bert"), tiny_data("number"), config=STILL, balance="weights")
