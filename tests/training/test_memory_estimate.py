"""The estimate grows with what costs memory, and not with what does not."""

import pytest

import bitfit
from bitfit import TrainConfig
from bitfit.training import memory_estimate as module
from bitfit.training.memory_estimate import estimate
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data


@pytest.fixture(scope="module")
def backbone() -> bitfit.Backbone:
    return tiny_backbone("bert")


def test_a_larger_batch_needs_more_for_its_pass(backbone: bitfit.Backbone) -> None:
    small, large = (estimate(backbone, tiny_data(), "bitfit", [TrainConfig(batch_size=size)]) for size in (2, 16))
    assert large.tokens_a_pass > 4 * small.tokens_a_pass
    assert large.training_pass > 4 * small.training_pass
    assert large.trained == small.trained
    assert large.scoring_pass == small.scoring_pass


def test_what_trains_decides_what_a_pass_keeps(backbone: bitfit.Backbone) -> None:
    bitfit_, full = (estimate(backbone, tiny_data(), method, [TrainConfig()]) for method in ("bitfit", "full"))
    assert full.trained > 4 * bitfit_.trained
    assert full.training_pass > bitfit_.training_pass


def test_rows_that_train_together_share_a_pass(backbone: bitfit.Backbone) -> None:
    configs = [TrainConfig(seed=seed) for seed in range(4)]
    one, four = (estimate(backbone, tiny_data(), "bitfit", own) for own in (configs[:1], configs))
    assert four.trained == 4 * one.trained
    assert four.tokens_a_pass > 3 * one.tokens_a_pass


def test_no_pass_is_larger_than_the_budget(backbone: bitfit.Backbone) -> None:
    data = tiny_data(train=4000)
    found = estimate(backbone, data, "bitfit", [TrainConfig(batch_size=4000)])
    assert found.tokens_a_pass <= 16384


def test_too_little_memory_is_said_in_words(backbone: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_available", lambda device: 50_000_000)
    said = module.maybe_get_warning(backbone, tiny_data(), "bitfit", [TrainConfig()])
    assert said is not None
    assert "the machine has 50 MB free" in said


@pytest.mark.parametrize("free", [None, 2 << 30, 100 << 30])
def test_nothing_is_said_where_it_fits_or_is_unknown(
    backbone: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    monkeypatch.setattr(module, "_available", lambda device: free)
    assert module.maybe_get_warning(backbone, tiny_data(), "bitfit", [TrainConfig()]) is None


@pytest.mark.parametrize("kind", ["labels", "number", "tags"])
def test_every_kind_of_task_has_one(backbone: bitfit.Backbone, kind: str) -> None:
    found = estimate(backbone, tiny_data(kind), "bitfit", [TrainConfig()])
    assert 0 < found.needed < found.total
    assert found.to_json()["total"] == found.total


def test_what_the_values_take_does_not_grow_with_the_tokens() -> None:
    backbone = tiny_backbone("bert", vocab_size=20_000)  # more in the weights than in a pass
    full, gated = (estimate(backbone, tiny_data(), method, [TrainConfig()]) for method in ("full", "diff-pruning"))
    assert gated.scoring_pass - full.scoring_pass < gated.trained


@pytest.mark.parametrize("method", ["diff-pruning", "random-uniform", "lora", "houlsby"])
def test_every_family_of_methods_has_one(backbone: bitfit.Backbone, method: str) -> None:
    found = estimate(backbone, tiny_data(), method, [TrainConfig()])
    assert 0 < found.trained < found.needed
