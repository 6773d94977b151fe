"""Sums, spreads and products by row, against a loop over the rows."""

from itertools import pairwise

import pytest
import torch

from bitfit.runtime import segments as module
from bitfit.runtime.segments import Segments, bias_sums, linear_of_rows
from tests.batches import assert_near

BOUNDS = ((0, 3, 4, 9), (0, 4, 8), (0, 7), (0, 1, 2, 3, 40), (0, 3, 3, 5))
each = pytest.mark.parametrize("bounds", BOUNDS, ids=str)


@each
@pytest.mark.parametrize("filler", [0, 2])
def test_values_are_spread_and_sums_add_up_by_row(bounds: tuple[int, ...], filler: int) -> None:
    segments, values = Segments(bounds), torch.randn(len(bounds) - 1, 5)
    spread = segments.spread(values, bounds[-1] + filler)
    for row, (start, stop) in enumerate(pairwise(bounds)):
        assert torch.equal(spread[start:stop], values[row].expand(stop - start, -1))
    assert not spread[bounds[-1] :].any()
    entries = torch.randn(bounds[-1] + filler, 5)
    wanted = torch.stack([entries[start:stop].sum(0) for start, stop in pairwise(bounds)])
    assert_near(segments.sums(entries), wanted, 1e-6)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 384])
@pytest.mark.parametrize("apart", [False, True])
def test_bf16_gradients_add_up_in_fp32(many: bool, columns: int, apart: bool) -> None:
    gradient = torch.full((3000, 2 * columns), 1.0, dtype=torch.bfloat16)
    gradient = gradient[:, :columns] if apart else gradient[:, :columns].contiguous()
    found = bias_sums(gradient, Segments((0, 1001, 3000)), many)
    assert found.dtype == torch.float32
    assert found[..., 0].tolist() == ([1001.0, 1999.0] if many else 3000.0)  # bf16 has steps of 8 and 16 there


@each
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
def test_each_row_has_its_own_product(
    bounds: tuple[int, ...], padded: bool, has_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW_POSITIONS", 1 << 14 if padded else 0)
    rows = len(bounds) - 1
    x = torch.randn(bounds[-1], 1, 4, requires_grad=True)
    weight = torch.randn(rows, 3, 4, requires_grad=True)
    bias = torch.randn(rows, 3) if has_bias else None
    found = linear_of_rows(x, weight, bias, Segments(bounds))
    products = [
        torch.nn.functional.linear(x[start:stop], weight[row], None if bias is None else bias[row])
        for row, (start, stop) in enumerate(pairwise(bounds))
    ]
    wanted = torch.cat(products)
    assert_near(found, wanted, 1e-5)
    uneven = torch.randn(found.shape)
    gradients = [torch.autograd.grad((answer * uneven).sum(), [x, weight]) for answer in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        assert_near(one, other, 1e-5)
