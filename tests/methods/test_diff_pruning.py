"""The gates of diff pruning: their draws, their slope, their penalty, and what is kept of the differences."""

import pytest
import torch
from torch import Tensor

from bitfit.backbone.heads import Head
from bitfit.backbone.task_model import head_start
from bitfit.methods.diff_pruning import (
    GATE_START,
    PENALTY,
    PIECE,
    GatedTheta,
    count_left,
    fill_grads,
    fill_shares,
    gated_values,
    slopes,
)
from bitfit.methods.method import select
from bitfit.methods.theta import with_whole_head
from bitfit.runtime.dropout import Draws
from tests.models import tiny_backbone


def rows(structured: bool = False, model_type: str = "bert") -> tuple[GatedTheta, torch.Tensor]:
    model = tiny_backbone(model_type).task_model(Head("class", 2))
    every = select(model, "full")
    found = GatedTheta(with_whole_head(every, model), model, structured, rate=1e-3)
    return found, found.starting_row(head_start(model, 0))[None]


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_without_a_difference_every_weight_is_the_pretrained_one(structured: bool, model_type: str) -> None:
    gated, theta = rows(structured, model_type)
    model = tiny_backbone(model_type).task_model(Head("class", 2))
    for tensors in (gated.tensors(theta), gated.drawn(theta, Draws([0]))):
        for name, value in tensors.items():
            assert torch.equal(value, model.get_parameter(name)), name


def test_open_gates_pass_a_difference_and_closed_ones_do_not() -> None:
    gated, theta = rows()
    theta[:, : gated.gates] = 1.0
    theta[:, gated.values : gated.values + 10] = -GATE_START
    difference = gated.difference(theta)
    assert torch.equal(difference[:10], torch.zeros(10))
    assert torch.equal(difference[10:], torch.ones(gated.gates - 10))


def test_draws_follow_the_hard_concrete_distribution() -> None:
    gated, theta = rows()
    theta[:, : gated.gates] = 1.0
    theta[:, gated.values :] = 0.0
    drawn = torch.cat([value.flatten() for value in gated.drawn(theta, Draws([0])).values()])
    start = torch.cat([gated.whole(name).flatten() for name in dict.fromkeys(slot.name for slot in gated.gated)])
    gates = drawn[: len(start)] - start
    # At even odds half of the stretch from -1.5 to 1.5 lies below 0, a sixth above 1.
    assert float((gates.abs() < 1e-6).float().mean()) == pytest.approx(1 / 2, abs=0.02)
    assert float(((gates - 1).abs() < 1e-6).float().mean()) == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize("structured", [False, True])
def test_gradients_reach_differences_and_gates(structured: bool) -> None:
    gated, theta = rows(structured)
    theta[:, gated.values :] = 0.3
    theta[:, : gated.gates] = 0.5
    theta.requires_grad_()
    sum((value**2).sum() for value in gated.tensors(theta).values()).backward()  # type: ignore[union-attr]
    assert theta.grad is not None
    place = int(torch.tensor(gated.bounds)[1]) + 3
    odds = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    group = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    gate = torch.sigmoid(odds) * 3 - 1.5
    if structured:
        gate = gate * (torch.sigmoid(group) * 3 - 1.5)
    difference = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    ((gated.pretrained[place].double() + difference * gate) ** 2).backward()
    assert difference.grad is not None
    assert odds.grad is not None
    assert float(theta.grad[0, place]) == pytest.approx(float(difference.grad), rel=1e-4)
    assert float(theta.grad[0, gated.values + place]) == pytest.approx(float(odds.grad), rel=1e-4)


def test_the_penalty_is_the_expected_number_of_open_gates() -> None:
    gated, theta = rows()
    theta[:, gated.values :] = torch.linspace(-3, 3, gated.gates)
    theta.requires_grad_()
    theta.grad = torch.ones_like(theta)
    odds = torch.linspace(-3, 3, gated.gates, requires_grad=True)
    wanted = PENALTY * odds.sigmoid().sum()
    wanted.backward()
    assert odds.grad is not None
    assert float(gated.add_penalty(theta)) == pytest.approx(wanted.item(), rel=1e-5)
    assert torch.equal(theta.grad[0, : gated.values], torch.ones(gated.values))
    torch.testing.assert_close(theta.grad[0, gated.values :], 1 + odds.grad)


def test_gates_have_a_rate_of_their_own_and_differences_no_decay() -> None:
    gated, _ = rows()
    assert gated.rates()[-1] == pytest.approx(0.1 / 1e-3)
    assert not gated.decays()[: gated.gates].any()


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_the_largest_differences_are_kept_and_nothing_else_moves(model_type: str) -> None:
    gated, theta = rows(model_type=model_type)
    generator = torch.Generator().manual_seed(3)
    theta[:, : gated.gates] = torch.randn(gated.gates, generator=generator)
    model = tiny_backbone(model_type).task_model(Head("class", 2))
    count = count_left(model)
    slots, values = gated.pruned(theta, count)
    assert sum(slot.size for slot in slots) == count
    smallest = float(theta[0, : gated.gates].abs().topk(count).values[-1])
    changes = torch.cat([(value - model.get_parameter(name)).flatten() for name, value in values.items()])
    moved = changes[changes != 0].abs()
    assert len(moved) == count
    assert float(moved.min()) == pytest.approx(smallest, rel=1e-3)


SIZE = PIECE + 100  # more than one piece


def gate_of(odds: Tensor, draws: Tensor | None) -> Tensor:
    """As the paper writes it; a large draw stands for low noise."""
    uniform = torch.tensor(0.5) if draws is None else (draws.double() + 32768.5) / 65536
    return (torch.sigmoid(odds + torch.logit(1 - uniform.double())) * 3 - 1.5).clamp(0, 1)


def random_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    odds = torch.randn(SIZE, generator=generator) * 4
    odds[:4] = torch.tensor([-200.0, -50.0, 50.0, 200.0])
    return odds, torch.randint(-32768, 32768, (SIZE,), generator=generator).to(torch.int16)


@pytest.mark.parametrize("drawn", [False, True])
def test_gates_are_the_papers_formula(drawn: bool) -> None:
    odds, draws = random_case()
    shares = torch.empty(SIZE)
    fill_shares(odds, draws if drawn else None, shares)
    wanted = gate_of(odds.double(), draws if drawn else None)
    torch.testing.assert_close(1.5 * shares.double(), wanted, rtol=1e-5, atol=1e-6)
    assert 0.1 < float((wanted == 0).double().mean()) < 0.9
    assert torch.equal(shares[:4] > 0, torch.tensor([False, False, True, True]))


def test_the_extreme_draws_give_numbers() -> None:
    draws = torch.tensor([-32768, 32767, -32768, 32767], dtype=torch.int16)
    shares = torch.empty(4)
    fill_shares(torch.tensor([-1000.0, -1000.0, 1000.0, 1000.0]), draws, shares)
    assert (1.5 * shares).tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("whole", [1.0, 0.4])
def test_the_way_back_is_the_formulas_gradient(whole: float) -> None:
    odds, draws = random_case()
    generator = torch.Generator().manual_seed(2)
    start, difference, grad = torch.randn(3, SIZE, generator=generator).unbind()
    shares, value = torch.empty(SIZE), torch.empty(SIZE)
    fill_shares(odds, draws, shares)
    gated_values(start, difference, shares, whole, value)
    to = torch.empty(SIZE), torch.empty(SIZE)
    to_whole = fill_grads(grad, difference, shares, whole, to)
    leaves = [x.double().requires_grad_() for x in (odds, difference, torch.tensor(whole))]
    wanted = start.double() + gate_of(leaves[0], draws) * leaves[2] * leaves[1]
    torch.testing.assert_close(value.double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    by_odds, by_difference, by_whole = torch.autograd.grad(wanted, leaves, grad.double())
    torch.testing.assert_close(to[0].double(), by_difference, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(to[1].double(), by_odds, rtol=1e-4, atol=1e-5)
    assert float(to_whole) == pytest.approx(float(by_whole), rel=1e-3)


def test_slopes_are_the_formulas() -> None:
    odds, draws = random_case()
    shares = torch.empty(SIZE)
    fill_shares(odds, draws, shares)
    leaf = odds.double().requires_grad_()
    (wanted,) = torch.autograd.grad(gate_of(leaf, draws).sum(), leaf)
    torch.testing.assert_close(slopes(shares).double(), wanted, rtol=1e-4, atol=1e-5)
