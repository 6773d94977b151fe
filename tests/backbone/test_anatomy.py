"""Every architecture of the table, on a tiny random model: what is found, how it is split, what cannot matter."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bloom.modeling_bloom import BloomAttention
from transformers.pytorch_utils import Conv1D

import bitfit
from bitfit.backbone.anatomy import SYMBOLS, Term, sites
from bitfit.backbone.architectures import listed
from bitfit.backbone.heads import Head
from tests.models import ARCHITECTURES, BIAS_FREE, INNER, LAYERS, WIDTH, inputs, tiny, tiny_backbone

# Bias-free architectures whose configuration can ask for biases.
WITH_BIASES = {
    "modernbert": {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
    "llama": {"attention_bias": True, "mlp_bias": True},
}
SETTINGS = [(name, {}) for name in ARCHITECTURES] + list(WITH_BIASES.items())
ATTENTION = ("query", "key", "value")
every_architecture = pytest.mark.parametrize("model_type", ARCHITECTURES)
every_setting = pytest.mark.parametrize(
    ("model_type", "settings"), SETTINGS, ids=[f"{name}{'+' * bool(own)}" for name, own in SETTINGS]
)


def by_type(model: nn.Module) -> dict[str, int]:
    """An independent count: what torch's own layer types call their bias."""
    added = (nn.Linear, nn.LayerNorm, nn.Conv1d, nn.Conv2d, Conv1D)
    modules = {name: module for name, module in model.named_modules() if isinstance(module, added)}
    found = {f"{name}.bias": module.bias for name, module in modules.items()}
    return {name: bias.numel() for name, bias in found.items() if bias is not None}


def part(term: Term, tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.flatten()
    return flat if term.index is None else flat[torch.from_numpy(term.index)]


@every_setting
def test_every_bias_is_found_once(model_type: str, settings: dict[str, bool]) -> None:
    model = tiny(model_type, **settings)
    sizes: dict[str, int] = {}
    for term in bitfit.terms(model):
        sizes[term.name] = sizes.get(term.name, 0) + term.size
    assert sizes == by_type(model)
    assert bool(sizes) == (model_type not in BIAS_FREE or bool(settings))


@every_setting
def test_no_bias_of_a_listed_architecture_is_called_other(model_type: str, settings: dict[str, bool]) -> None:
    assert {term.name for term in bitfit.terms(tiny(model_type, **settings)) if term.role == "other"} == set()


@every_architecture
def test_every_layer_has_its_terms(model_type: str) -> None:
    if model_type in (*BIAS_FREE, "qwen2"):
        pytest.skip("not all of its layers have biases")
    layers = {"bart": 2 * LAYERS, "albert": 1}.get(model_type, LAYERS)
    sizes: dict[tuple[int, str], int] = {}
    for term in bitfit.terms(tiny(model_type)):
        if term.symbol and term.layer is not None:
            place = (term.layer, term.symbol)
            sizes[place] = sizes.get(place, 0) + term.size
    inner = 4 * WIDTH if model_type == "bloom" else INNER
    assert sizes == {
        (layer, symbol): inner if role == "intermediate" else WIDTH
        for layer in range(layers)
        for role, symbol in SYMBOLS.items()
    }


@every_architecture
def test_layers_hold_a_query_a_key_and_a_value_even_without_biases(model_type: str) -> None:
    roles: dict[int, set[str]] = {}
    for place in sites(tiny(model_type)):
        if place.layer is not None:
            roles.setdefault(place.layer, set()).add(place.role)
    assert len(roles) == {"bart": 2 * LAYERS, "t5": 2 * LAYERS, "albert": 1}.get(model_type, LAYERS)
    for found in roles.values():
        assert {"query", "key", "value"} <= found or "query_key_value" in found
        assert {"attention_output", "intermediate", "output", "output_norm"} <= found


def gradients(model_type: str, settings: dict[str, bool]) -> list[tuple[Term, float]]:
    """The largest gradient of each term, in double precision so that a zero is told from a small number."""
    backbone = tiny_backbone(model_type, **settings)
    model = backbone.task_model(Head("class", 3)).double()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    logits = model(**as_double(inputs(model_type))).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (logits * weights).sum().backward()
    found = [(term, model.get_parameter(term.name).grad) for term in bitfit.terms(model)]
    return [(term, float(part(term, grad).abs().max())) for term, grad in found if grad is not None]


def as_double(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


@every_setting
def test_a_term_is_inert_exactly_where_its_gradient_is_zero(model_type: str, settings: dict[str, bool]) -> None:
    found = gradients(model_type, settings)
    largest = max((size for _, size in found), default=0.0)
    zero = 1e-6 if model_type == "bloom" else 1e-12  # Bloom takes its softmax in single precision
    for term, size in found:
        assert (size < zero * largest) == term.inert, (term, size, largest)


def test_rotary_keys_are_inert_where_nothing_turns_them() -> None:
    keys = [term for term in bitfit.terms(tiny("gpt_neox")) if term.role == "key" and term.layer == 0]
    assert [(term.size, term.inert) for term in keys] == [(WIDTH // 4, False), (WIDTH * 3 // 4, True)]


@pytest.mark.parametrize("kinds", [["c2p"], []])
def test_disentangled_keys_are_inert_without_their_place_part(kinds: list[str]) -> None:
    model = tiny("deberta-v2", pos_att_type=kinds)
    assert all(term.inert for term in bitfit.terms(model) if term.role == "key")


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "modernbert"])
def test_a_fused_projection_is_split_as_its_attention_reads_it(
    model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(model_type, **WITH_BIASES.get(model_type, {}))
    seen: list[tuple[torch.Tensor, ...]] = []

    def spy(module, query, key, value, mask, **rest):  # type: ignore[no-untyped-def]
        seen.append((query, key, value))
        return value.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "spy", spy)
    model.set_attn_implementation("spy")

    def first_layer() -> tuple[torch.Tensor, ...]:
        seen.clear()
        model(**inputs(model_type))
        return seen[0]

    before = first_layer()
    for term in bitfit.terms(model):
        if term.layer == 0 and term.role in ATTENTION:
            bias = model.get_parameter(term.name)
            kept = bias.clone()
            part_index = torch.from_numpy(term.index)
            bias.data.view(-1)[part_index] += 1
            moved = [not torch.equal(one, two) for one, two in zip(before, first_layer(), strict=True)]
            assert moved == [term.role == role for role in ATTENTION]
            bias.data.copy_(kept)


def test_blooms_projection_is_split_as_its_attention_reads_it() -> None:
    model = tiny("bloom")
    attention = model.get_submodule("h.0.self_attention")
    assert isinstance(attention, BloomAttention)
    numbered = torch.arange(3.0 * WIDTH).view(1, 1, -1)
    read = dict(zip(ATTENTION, attention._reshape(numbered), strict=True))
    for term in bitfit.terms(model):
        if term.layer == 0 and term.role in ATTENTION:
            assert term.index is not None
            assert np.array_equal(term.index, np.sort(read[term.role].flatten().numpy()))


def test_relative_position_tables_are_no_biases() -> None:
    names = [name for name, _ in tiny("mpnet").named_parameters()]
    assert "encoder.relative_attention_bias.weight" in names
    assert not any("relative" in term.name for term in bitfit.terms(tiny("mpnet")))


def test_a_task_models_head_is_called_head_and_the_rest_keeps_its_place() -> None:
    backbone = tiny_backbone("roberta")
    base = {term.name: term for term in bitfit.terms(backbone.model)}
    for term in bitfit.terms(backbone.task_model(Head("class", 2))):
        inside = term.name.removeprefix("roberta.")
        assert (term.role == "head") == (inside not in base)
        if inside in base:
            assert (term.role, term.layer, term.symbol) == (
                base[inside].role,
                base[inside].layer,
                base[inside].symbol,
            )


def test_an_architecture_that_nobody_listed_has_its_usual_places_named() -> None:
    config = AutoConfig.for_model(
        "ernie", vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48
    )
    assert "ernie" not in listed()
    with torch.device("meta"):
        found = bitfit.terms(AutoModel.from_config(config))
    assert {term.layer for term in found if term.symbol} == {0, 1, 2}
    assert {term.symbol for term in found} >= set(SYMBOLS.values())
    assert not any(term.inert for term in found)


def test_modules_at_unknown_places_are_other_and_still_count() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query_bias_output = nn.Linear(3, 5)
            self.table = nn.Embedding(2, 3)

    assert [(term.role, term.size) for term in bitfit.terms(Odd())] == [("other", 5)]


@every_architecture
def test_names_need_no_weights(model_type: str) -> None:
    real = tiny(model_type)
    with torch.device("meta"):
        ghost = AutoModel.from_config(real.config)
    assert bitfit.terms(ghost) == bitfit.terms(real)
    assert sum(term.size for term in bitfit.terms(ghost)) == sum(
        math.prod(real.get_parameter(name).shape) for name in by_type(real)
    )
