"""Gates against the formula written out in double precision."""

import pytest
import torch
from torch import Tensor

from bitfit.methods.gates import PIECE, fill_grads, fill_shares, gated_values, slopes

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
