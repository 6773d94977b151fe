"""Dropout draws: the rate asked for, independent of each other, and a row's own."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from bitfit.backbone.device import CPU
from bitfit.runtime.dropout import DeviceDraws, Draws, draws_on

MANY = 200_000


@pytest.fixture(params=[Draws, lambda seeds: DeviceDraws(seeds, CPU)], ids=["processor", "device"])
def make(request: pytest.FixtureRequest) -> Callable[..., Draws]:
    """Both kinds; a GPU's draws on the processor here."""
    kind: Callable[..., Draws] = request.param
    return kind


def dropped(draws: Draws, sizes: list[int], rate: float) -> Tensor:
    """1.0 where an element is dropped."""
    return (draws.signs(sizes, rate) < 0).float()


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_the_one_asked_for(make: Callable[..., Draws], rate: float) -> None:
    share = float(dropped(make([0]), [MANY], rate).mean())
    assert abs(share - rate) < 5 * np.sqrt(max(rate * (1 - rate), 1e-12) / MANY) + 2**-15


def test_draws_are_independent_between_sites_steps_rows_and_neighbours(make: Callable[..., Draws]) -> None:
    draws = make([[1, 2], [2, 2]])
    first, second = dropped(draws, [MANY, MANY], 0.5), dropped(draws, [MANY, MANY], 0.5)
    one, other = first.split(MANY)
    for a, b in [(first, second), (one, other), (one[1:], one[:-1]), (one[4:], one[:-4]), (one, second[MANY:])]:
        correlation = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
        assert abs(correlation) < 5 / np.sqrt(len(a))


def test_a_row_draws_the_same_alone_and_beside_others(make: Callable[..., Draws]) -> None:
    together, alone = make([4, 5, 6]), make([5])
    for size in (7, 64, 1):
        wanted = alone.signs([size], 0.3)
        assert torch.equal(together.signs([3, size, 9], 0.3)[3 : 3 + size], wanted)


def test_a_row_that_waits_draws_nothing(make: Callable[..., Draws]) -> None:
    draws, alone = make([4, 5]), make([5])
    with draws.only([0]):
        draws.signs([100], 0.3)
    assert torch.equal(draws.signs([8, 8], 0.3)[8:], alone.signs([8], 0.3))


def test_rows_that_stay_go_on_where_they_were(make: Callable[..., Draws]) -> None:
    draws, alone = make([4, 5, 6]), make([6])
    draws.signs([10, 10, 10], 0.3)
    alone.signs([10], 0.3)
    draws.select([2])
    assert torch.equal(draws.signs([10], 0.3), alone.signs([10], 0.3))


def test_the_state_brings_the_same_draws_back(make: Callable[..., Draws]) -> None:
    draws = make([4, 5])
    draws.signs([10, 3], 0.3)
    state = draws.state()
    wanted = draws.signs([9, 9], 0.3), draws.seed()
    other = make([0, 0])
    other.restore(state)
    assert torch.equal(other.signs([9, 9], 0.3), wanted[0])
    assert other.seed() == wanted[1]


def test_a_device_draws_all_sixteen_bits_and_other_rows_draw_others() -> None:
    bits = DeviceDraws([4, [4, 1]], CPU).bits([MANY, MANY])
    assert bits.dtype == torch.int16
    assert (int(bits.min()), int(bits.max())) == (-(2**15), 2**15 - 1)
    assert not torch.equal(bits[:MANY], bits[MANY:])


def test_a_processor_keeps_its_own_kind() -> None:
    assert type(draws_on(CPU, [1])) is Draws
    assert type(draws_on(torch.device("meta"), [])) is DeviceDraws
