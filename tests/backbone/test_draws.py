"""Dropout draws: the rate asked for, independent of each other, and a row's own."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bitfit.backbone.draws import Draws

MANY = 200_000


def dropped(draws: Draws, sizes: list[int], rate: float) -> Tensor:
    """1.0 where an element is dropped."""
    return (draws.signs(sizes, rate) < 0).float()


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_the_one_asked_for(rate: float) -> None:
    share = float(dropped(Draws([0]), [MANY], rate).mean())
    assert abs(share - rate) < 5 * np.sqrt(max(rate * (1 - rate), 1e-12) / MANY) + 2**-15


def test_draws_are_independent_between_sites_steps_rows_and_neighbours() -> None:
    draws = Draws([[1, 2], [2, 2]])
    first, second = dropped(draws, [MANY, MANY], 0.5), dropped(draws, [MANY, MANY], 0.5)
    one, other = first.split(MANY)
    for a, b in [(first, second), (one, other), (one[1:], one[:-1]), (one[4:], one[:-4]), (one, second[MANY:])]:
        correlation = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
        assert abs(correlation) < 5 / np.sqrt(len(a))


def test_a_row_draws_the_same_alone_and_beside_others() -> None:
    together, alone = Draws([4, 5, 6]), Draws([5])
    for size in (7, 64, 1):
        wanted = alone.signs([size], 0.3)
        assert torch.equal(together.signs([3, size, 9], 0.3)[3 : 3 + size], wanted)


def test_a_row_that_waits_draws_nothing() -> None:
    draws, alone = Draws([4, 5]), Draws([5])
    with draws.only([0]):
        draws.signs([100], 0.3)
    assert torch.equal(draws.signs([8, 8], 0.3)[8:], alone.signs([8], 0.3))


def test_rows_that_stay_go_on_where_they_were() -> None:
    draws, alone = Draws([4, 5, 6]), Draws([6])
    draws.signs([10, 10, 10], 0.3)
    alone.signs([10], 0.3)
    draws.select([2])
    assert torch.equal(draws.signs([10], 0.3), alone.signs([10], 0.3))


def test_the_state_brings_the_same_draws_back() -> None:
    draws = Draws([4, 5])
    draws.signs([10, 3], 0.3)
    state = draws.state()
    wanted = draws.signs([9, 9], 0.3), draws.seed()
    other = Draws([0, 0])
    other.restore(state)
    assert torch.equal(other.signs([9, 9], 0.3), wanted[0])
    assert other.seed() == wanted[1]
