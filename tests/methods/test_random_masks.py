"""The random baselines: exactly BitFit's size, a function of the seed, elements or whole lines."""

import numpy as np
import pytest
from transformers import PreTrainedModel

from bitfit.backbone.heads import Head
from bitfit.errors import RequestError
from bitfit.methods.selection import Selection, select
from tests.models import tiny_backbone

METHODS = ["random-uniform", "random-rows-columns"]
MODELS = ["bert", "gpt2", "gpt_neox", "bart", "deberta-v2", "vit", "qwen2"]


def task_model(model_type: str) -> PreTrainedModel:
    return tiny_backbone(model_type).task_model(Head("class", 3))


def drawn(selection: Selection) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for slot in selection.slots:
        if not slot.in_head:
            assert slot.index is not None
            assert list(slot.index) == sorted(set(slot.index))
            found.setdefault(slot.name, []).extend(slot.index.tolist())
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_trains_as_many_elements_as_bitfit(model_type: str, method: str, seed: int) -> None:
    model = task_model(model_type)
    selection = select(model, method, seed=seed)
    assert selection.size == select(model, "bitfit").size
    for name, index in drawn(selection).items():
        assert len(set(index)) == len(index)
        assert 0 <= min(index) <= max(index) < model.get_parameter(name).numel()


@pytest.mark.parametrize("method", METHODS)
def test_elements_are_a_function_of_the_seed(method: str) -> None:
    one = select(task_model("bert"), method, seed=5)
    assert one == select(task_model("bert"), method, seed=5)
    assert drawn(one) != drawn(select(task_model("bert"), method, seed=6))


def test_uniform_draws_reach_the_whole_encoder_evenly() -> None:
    model = task_model("bert")
    counts: dict[str, int] = {}
    for seed in range(200):
        for name, index in drawn(select(model, "random-uniform", "frozen", seed)).items():
            counts[name] = counts.get(name, 0) + len(index)
    sizes = {name: value.numel() for name, value in model.base_model.named_parameters()}
    share = sum(counts.values()) / sum(sizes.values())
    for name, size in sizes.items():
        expected = share * size
        assert abs(counts[f"bert.{name}"] - expected) < 6 * np.sqrt(expected), name


def is_lines(index: list[int], rows: int, columns: int) -> bool:
    chosen = np.zeros(rows * columns, bool)
    chosen[index] = True
    grid = chosen.reshape(rows, columns)
    return bool((grid.all(1) == grid.any(1)).all() or (grid.all(0) == grid.any(0)).all())


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_whole_but_for_one(seed: int) -> None:
    model = task_model("bert")
    cut = 0
    for name, index in drawn(select(model, "random-rows-columns", "frozen", seed)).items():
        shape = model.get_parameter(name).shape
        assert len(shape) == 2
        assert "embeddings" not in name
        cut += not is_lines(index, *shape)
    assert cut <= 1


def test_elements_whose_gradient_is_zero_are_kept_still() -> None:
    model = task_model("bert")
    slots = [slot for seed in range(5) for slot in select(model, "random-uniform", seed=seed).slots]
    assert any(slot.inert for slot in slots)
    assert all(slot.inert == slot.name.endswith("key.bias") for slot in slots)


@pytest.mark.parametrize("method", ["random-uniform", "random-rows-columns"])
def test_a_model_without_biases_is_refused_in_the_methods_own_name(method: str) -> None:
    with pytest.raises(RequestError, match=f"'{method}' draws as many elements as the model has biases.*'added-bias'"):
        select(task_model("llama"), method)
