"""Gains and shifts at every site of every architecture, against plain torch, for one row and for many."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.anatomy import blocks, is_norm, sites, terms
from bitfit.backbone.heads import Head
from bitfit.runtime.dropout import Draws
from bitfit.runtime.layout import Batch, Layout
from bitfit.runtime.row_model import RowModel
from bitfit.runtime.sites import Leaf, Undo, insert
from tests.batches import SHAKEN, assert_near, both, plain_answers
from tests.models import ARCHITECTURES, inputs, tiny, tiny_backbone

HEAD = Head("class", 3)
SIZES, COUNTS = (9, 1, 17, 3, 16, 33), (2, 1, 3)
LINEAR: tuple[Leaf, ...] = ("gain", "shift", "input_gain")
OUTPUT: tuple[Leaf, ...] = ("gain", "shift")
PACKED = [name for name in ARCHITECTURES if name not in ("mpnet", "deberta-v2", "bart", "bloom", "t5", "vit")]


def chosen(model: nn.Module) -> dict[str, tuple[Leaf, ...]]:
    """Every site of an encoder, with what can be put there."""
    modules = dict(model.named_modules())
    found: dict[str, tuple[Leaf, ...]] = {}
    for site in sites(model):
        if site.role == "head":
            continue
        if isinstance(modules[site.name], nn.Linear | Conv1D):
            found[site.name] = LINEAR
        elif is_norm(modules[site.name]):
            found[site.name] = OUTPUT
    return {**found, **{block.name: OUTPUT for block in blocks(model)}}


def equip(model: PreTrainedModel) -> list[Undo]:
    """Put gains and shifts at all sites of a model."""
    whole = {block.name for block in blocks(model)}
    return [
        insert(model.get_submodule(name), leaves, model.config.hidden_size if name in whole else None)
        for name, leaves in chosen(model).items()
    ]


def equipped(model: PreTrainedModel) -> PreTrainedModel:
    """The model with gains and shifts at all its sites."""
    equip(model)
    return model


def values_for(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Values for what was put in, away from zero."""
    generator = torch.Generator().manual_seed(seed)
    leaves = [name for name, _ in model.named_parameters() if name.rpartition(".")[2] in LINEAR]
    return {
        name: (0.2 * torch.randn(model.get_parameter(name).shape, generator=generator)).requires_grad_()
        for name in leaves
    }


def _after(module: nn.Module, given: Any, output: Any, gain: Tensor | None, shift: Tensor | None) -> Any:
    h = output[0] if isinstance(output, tuple) else output
    h = h if gain is None else h * (1 + gain)
    h = h if shift is None else h + shift
    return (h, *output[1:]) if isinstance(output, tuple) else h


def _before(module: nn.Module, given: Any, gain: Tensor) -> Any:
    return (given[0] * (1 + gain), *given[1:])


@contextmanager
def by_definition(model: nn.Module, values: dict[str, Tensor]) -> Iterator[None]:
    """Inside, an untouched model computes with these values, by the definition in plain torch."""
    hooks = []
    for name in chosen(model):
        module = model.get_submodule(name)
        gain, shift, before = (values.get(f"{name}.{leaf}") for leaf in LINEAR)
        hooks.append(module.register_forward_hook(partial(_after, gain=gain, shift=shift)))
        if before is not None:
            hooks.append(module.register_forward_pre_hook(partial(_before, gain=before)))
    yield
    for hook in hooks:
        hook.remove()


def gradients(answers: Tensor, values: dict[str, Tensor]) -> list[Tensor]:
    uneven = torch.randn(answers.shape, generator=torch.Generator().manual_seed(6))
    return list(torch.autograd.grad((answers * uneven).sum(), list(values.values())))


def assert_alike(found: list[Tensor], wanted: list[Tensor]) -> None:
    """Each to 1e-4 of its own size; one that is nothing but noise beside the others to 1e-4 of theirs."""
    largest = max(float(other.abs().max()) for other in wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max()) <= 1e-4 * max(float(other.abs().max()), 0.01 * largest)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_one_row_answers_and_learns_by_the_definition(model_type: str) -> None:
    backbone = tiny_backbone(model_type)
    plain, inner = backbone.task_model(HEAD), equipped(backbone.task_model(HEAD))
    values = values_for(inner)
    if model_type == "vit":
        pixels = inputs("vit", (1, 1, 1))["pixel_values"]
        ones = torch.ones(3, dtype=torch.long)
        batch = Batch(ones, 0 * ones, Layout((1, 1, 1), (3,)), pixels)
        with by_definition(plain, values):
            wanted = plain(pixel_values=pixels).logits
    else:
        padded, batch = both(model_type, SIZES)
        with by_definition(plain, values):
            wanted = plain_answers(plain, padded, HEAD)
    found = RowModel(inner, HEAD, torch.float32).answers(batch, values)
    assert_near(found, wanted)
    assert_alike(gradients(found, values), gradients(wanted, values))


@pytest.mark.parametrize("dropout", [False, True], ids=["sure", "dropout"])
@pytest.mark.parametrize("model_type", PACKED)
def test_rows_beside_others_answer_and_learn_as_each_does_alone(model_type: str, dropout: bool) -> None:
    backbone = tiny_backbone(model_type, **SHAKEN.get(model_type, {}))
    inner = equipped(backbone.task_model(HEAD))
    each = [values_for(inner, seed) for seed in range(3)]
    stacked = {name: torch.stack([values[name].detach() for values in each]).requires_grad_() for name in each[0]}
    model = RowModel(inner, HEAD, torch.float32)
    assert model.takes_rows(stacked)
    _, batch = both(model_type, SIZES)
    together = Batch(batch.ids, batch.types, Layout(SIZES, COUNTS))
    answers = model.answers(together, stacked, Draws([5, 6, 7]) if dropout else None)
    learnt = torch.autograd.grad(answers.square().sum(), list(stacked.values()))
    for row, values in enumerate(each):
        first, last = together.layout.row_starts[row : row + 2]
        start, stop = together.layout.starts[first], together.layout.starts[last]
        alone = Batch(batch.ids[start:stop], batch.types[start:stop], together.layout.of_rows(row, row + 1))
        answer = model.answers(alone, values, Draws([5 + row]) if dropout else None)
        assert_near(answers[first:last], answer)
        own = list(torch.autograd.grad(answer.square().sum(), list(values.values())))
        assert_alike([gradient[row] for gradient in learnt], own)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "t5"])
def test_the_plain_model_computes_it_too_and_is_left_as_it_was(model_type: str) -> None:
    backbone = tiny_backbone(model_type)
    plain, model = backbone.task_model(HEAD), backbone.task_model(HEAD)
    padded, _ = both(model_type, SIZES)
    before, names = plain_answers(model, padded, HEAD), [name for name, _ in model.named_parameters()]
    counted = terms(model)
    undo = equip(model)
    assert torch.equal(plain_answers(model, padded, HEAD), before), "all begin at zero"
    assert terms(model) == counted, "they are no biases of the model's own"
    values = {name: value.detach() for name, value in values_for(model).items()}
    for name, value in values.items():
        model.get_parameter(name).copy_(value)
    with by_definition(plain, values):
        assert_near(plain_answers(model, padded, HEAD), plain_answers(plain, padded, HEAD))
    for step in undo:
        step()
    assert [name for name, _ in model.named_parameters()] == names
    assert torch.equal(plain_answers(model, padded, HEAD), before)


def test_a_site_takes_each_of_them_once() -> None:
    layer = nn.Linear(3, 4)
    insert(layer, ["gain"])
    insert(layer, ["input_gain"])
    assert (layer.gain.shape, layer.input_gain.shape) == ((4,), (3,))
    with pytest.raises(ValueError, match="Linear has a gain already"):
        insert(layer, ["shift", "gain"])


def test_a_gain_of_sixteen_bits_is_not_rounded_to_their_steps_near_one() -> None:
    layer = nn.Linear(2, 2, bias=False).to(torch.bfloat16)
    nn.init.eye_(layer.weight)
    insert(layer, ["gain"])
    gain = torch.full((2,), 1e-3, requires_grad=True)
    layer._parameters["gain"] = gain  # type: ignore[assignment]
    h = torch.full((1, 2), 0.5, dtype=torch.bfloat16)
    layer(h).float().sum().backward()
    assert gain.grad is not None
    assert gain.grad.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_blocks_are_the_layers_by_number(model_type: str) -> None:
    found = blocks(tiny(model_type))
    assert [block.layer for block in found] == list(range(len(found)))
    assert len(found) == {"albert": 1, "bart": 4, "t5": 4}.get(model_type, 2)
