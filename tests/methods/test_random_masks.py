"""The random baselines: BitFit's size, a function of the seed; elements, whole lines, or what the reference draws."""

import numpy as np
import pytest
from transformers import PreTrainedModel

from bitfit.backbone.heads import Head
from bitfit.errors import RequestError
from bitfit.methods.method import select
from bitfit.methods.selection import Selection
from tests.models import tiny_backbone

METHODS = ["random-uniform", "random-rows-columns", "random-lines"]
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


@pytest.mark.parametrize("method", ["random-uniform", "random-lines"])
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


def reference_kind(name: str, shape: tuple[int, ...], chosen: np.ndarray) -> str:
    """What the authors' code calls a mask of a parameter, told from the mask alone."""
    if len(shape) == 1:
        assert "LayerNorm" in name
        assert chosen.all()
        return "norm"
    outputs, inputs = shape
    if chosen.all(0).sum() == 1 and chosen.sum() == outputs:
        return "column"
    assert outputs >= inputs
    assert chosen.all(1).sum() == outputs // inputs
    assert chosen.sum() == outputs // inputs * inputs
    return "rows"


@pytest.mark.parametrize(("inner", "kinds"), [(48, {"column", "rows", "norm"}), (96, {"column", "rows", "norm"})])
def test_rows_and_columns_are_drawn_as_the_reference_draws_them(inner: int, kinds: set[str]) -> None:
    model = tiny_backbone("bert", intermediate_size=inner).task_model(Head("class", 3))
    seen = set()
    for seed in range(6):
        found = drawn(select(model, "random-rows-columns", "frozen", seed))
        expected = {  # the reference's own words for what has a mask
            f"bert.{name}"
            for name, _ in model.base_model.named_parameters()
            if ("encoder" in name or "pooler" in name) and "weight" in name
        }
        assert set(found) == expected
        for name, index in found.items():
            shape = tuple(model.get_parameter(name).shape)
            chosen = np.zeros(int(np.prod(shape)), bool)
            chosen[index] = True
            seen.add(reference_kind(name, shape, chosen.reshape(shape)))
    assert seen == kinds


def test_a_column_of_a_transposed_matrix_reaches_every_output() -> None:
    model = task_model("gpt2")
    sizes = set()
    for seed in range(4):
        found = drawn(select(model, "random-rows-columns", "frozen", seed))
        index = np.array(found["transformer.h.0.mlp.c_proj.weight"])  # (inputs, outputs): 48 to 32, always a column
        rows, columns = np.divmod(index, 32)
        assert len(set(rows.tolist())) == 1
        assert sorted(columns.tolist()) == list(range(32))
        sizes.add(len(found["transformer.h.0.mlp.c_fc.weight"]))
    assert sizes <= {48, 32}


def is_lines(index: list[int], rows: int, columns: int) -> bool:
    chosen = np.zeros(rows * columns, bool)
    chosen[index] = True
    grid = chosen.reshape(rows, columns)
    return bool((grid.all(1) == grid.any(1)).all() or (grid.all(0) == grid.any(0)).all())


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_whole_but_for_one(seed: int) -> None:
    model = task_model("bert")
    cut = 0
    for name, index in drawn(select(model, "random-lines", "frozen", seed)).items():
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


@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_biases_is_refused_in_the_methods_own_name(method: str) -> None:
    with pytest.raises(RequestError, match=f"'{method}' draws as many elements as the model has biases.*'added-bias'"):
        select(task_model("llama"), method)
