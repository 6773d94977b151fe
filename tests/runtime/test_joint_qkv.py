"""Queries, keys and values in one product: the same answers and gradients as each alone."""

import pytest
import torch
from torch import Tensor, nn

from bitfit.runtime.joint_qkv import join_qkv, side_by_side
from bitfit.runtime.layers import replace_layers
from bitfit.runtime.layout import Layout
from bitfit.runtime.linear import FastLinear
from bitfit.runtime.passes import Pass, running
from bitfit.runtime.sites import insert
from tests.batches import assert_near
from tests.models import tiny

PLACE = "encoder.layer.0.attention.self"
NAMES = ("query", "key", "value")


def encoder(joined: bool) -> nn.Module:
    model = tiny("bert")
    replace_layers(model, torch.float32)
    model.requires_grad_(False)
    if joined:
        join_qkv(model)
    return model


def layers(model: nn.Module) -> list[FastLinear]:
    found = [model.get_submodule(f"{PLACE}.{name}") for name in NAMES]
    assert all(isinstance(layer, FastLinear) for layer in found)
    return found  # type: ignore[return-value]


class Trio(nn.Module):
    """Asks the three for what they answer to one input, in any order."""

    def __init__(self, three: list[FastLinear], order: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.three, self.order = nn.ModuleList(three), order

    def forward(self, x: Tensor) -> Tensor:
        found = {i: self.three[i](x) for i in self.order}
        return torch.stack([found[i] for i in range(3)])


def answered(model: nn.Module, given: dict[str, Tensor], x: Tensor, counts: tuple[int, ...] = (2,)) -> Tensor:
    """What a model answers in a pass with these values, over two sequences."""
    layout = Layout((5, 8), counts)
    values = {id(model.get_parameter(name)): value for name, value in given.items()}
    with running(Pass(layout, layout.tokens, values)):
        found: Tensor = model(x)
    return found


def values(three: list[FastLinear], rows: int, trained: tuple[int, ...]) -> dict[str, Tensor]:
    """Biases of those that train, for so many rows."""
    generator = torch.Generator().manual_seed(3)
    found = {}
    for i in trained:
        size = len(three[i].weight)
        shape = (rows, size) if rows > 1 else (size,)
        found[f"three.{i}.bias"] = torch.randn(shape, generator=generator).requires_grad_()
    return found


@pytest.mark.parametrize("trained", [(0, 1, 2), (0,), (1, 2), ()], ids=str)
@pytest.mark.parametrize("counts", [(2,), (1, 1)], ids=["one row", "two rows"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=str)
def test_together_as_alone(trained: tuple[int, ...], counts: tuple[int, ...], order: tuple[int, ...]) -> None:
    results = []
    for joined in (False, True):
        three = layers(encoder(joined))
        assert all((layer.joint is not None) == joined for layer in three)
        given = values(three, len(counts), trained)
        x = torch.randn(1, 64, three[0].weight.shape[1], generator=torch.Generator().manual_seed(5)).requires_grad_()
        answer = answered(Trio(three, order), given, x, counts)
        uneven = torch.randn(answer.shape, generator=torch.Generator().manual_seed(6))
        uneven[:, :, 13:] = 0  # filler belongs to no row, and its gradient is zero
        results.append((answer[:, :, :13], *torch.autograd.grad((answer * uneven).sum(), [x, *given.values()])))
    for alone, together in zip(*results, strict=True):
        assert_near(together, alone, 1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_gains_and_shifts_are_each_layers_own(rows: int) -> None:
    results = []
    for joined in (False, True):
        model = tiny("bert")
        for name, leaves in (("key", ["gain"]), ("value", ["gain", "shift"]), ("query", ["shift"])):
            insert(model.get_submodule(f"{PLACE}.{name}"), leaves)
        replace_layers(model.requires_grad_(False), torch.float32)
        if joined:
            join_qkv(model)
        trio, generator = Trio(layers(model)), torch.Generator().manual_seed(3)
        given = {
            f"three.{i}.{leaf}": torch.randn(*(rows, 32)[rows == 1 :], generator=generator).requires_grad_()
            for i, leaf in ((0, "shift"), (1, "gain"), (2, "gain"), (2, "shift"))
        }
        x = torch.randn(1, 64, 32, generator=torch.Generator().manual_seed(5)).requires_grad_()
        answer = answered(trio, given, x, (2,) if rows == 1 else (1, 1))[:, :, :13]
        results.append((answer, *torch.autograd.grad(answer.square().sum(), [x, *given.values()])))
    for alone, together in zip(*results, strict=True):
        assert_near(together, alone, 1e-5)


def test_another_input_is_computed_anew() -> None:
    three = layers(encoder(True))
    one, other = torch.randn(2, 1, 64, three[0].weight.shape[1])
    alone = layers(encoder(False))
    with running(Pass(Layout((5,), (1,)))):
        three[0](one)
        assert_near(three[1](other), alone[1](other), 1e-6)
        assert_near(three[1](one), alone[1](one), 1e-6)
        assert_near(three[1](one), alone[1](one), 1e-6)  # asked twice


def test_a_weight_that_trains_takes_the_layers_apart() -> None:
    three = layers(encoder(True))
    weight = torch.randn(three[1].weight.shape).requires_grad_()
    x = torch.randn(1, 64, weight.shape[1])
    answer = answered(Trio(three), {"three.1.weight": weight}, x)
    assert_near(answer[1], nn.functional.linear(x, weight, three[1].bias), 1e-5)
    (gradient,) = torch.autograd.grad(answer[1].sum(), weight)
    assert gradient.any()


def test_layers_of_unlike_size_stay_alone() -> None:
    model = tiny("llama")  # its keys have fewer heads
    replace_layers(model, torch.float32)
    join_qkv(model)
    fast = [module for module in model.modules() if isinstance(module, FastLinear)]
    assert fast
    assert not any(module.joint for module in fast)


def test_neighbours_are_not_copied() -> None:
    whole = torch.arange(24.0).view(4, 3, 2)
    parts = whole.unbind(1)
    assert torch.equal(side_by_side(parts, 1), whole)
    assert side_by_side(parts, 1).data_ptr() == whole.data_ptr()


@pytest.mark.parametrize(
    "parts",
    [
        torch.arange(24.0).view(4, 3, 2).unbind(1)[::-1],
        [torch.randn(4, 2) for _ in range(3)],
        [torch.randn(4, 2)] * 3,
        [torch.arange(30.0).view(5, 6)[:4, i : i + 2] for i in (0, 1, 4)],
    ],
    ids=["backwards", "strangers", "one thrice", "uneven steps"],
)
def test_others_are_stacked(parts: list[Tensor]) -> None:
    assert torch.equal(side_by_side(parts, 1), torch.stack(list(parts), 1))
