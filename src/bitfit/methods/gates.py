"""Gates that can close, drawn from the hard concrete distribution (Louizos and others, 2018).

A gate is sigmoid(log odds + logistic noise), stretched to -1.5 ... 1.5 and clamped to 0 ... 1. Every function goes
through its tensors in pieces, so that what is made on the way stays in the processor's cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

PIECE = 1 << 16  # elements
LEVELS = 1 << 16  # of a uniform draw
HIGHEST = 1.5  # a gate is drawn from -HIGHEST to HIGHEST
# A *share* is a gate over HIGHEST: clamp(tanh((odds + noise) / 2), 0, OPEN). It grows by (1 - share ** 2) / 2.
OPEN = 1 / HIGHEST
_aten = torch.ops.aten


def fill_shares(odds: Tensor, draws: Tensor | None, shares: Tensor) -> None:
    """The gates' shares; without draws as they stand, without noise. All (gates,), draws uniform 16-bit integers."""
    if draws is None:
        torch.mul(odds, 0.5, out=shares).tanh_().clamp_(0.0, OPEN)
        return
    one, levels = odds.new_ones(()), odds.new_full((), LEVELS)
    for odd, bits, share in _pieces(odds, draws, shares):
        # With y uniform, 1 - sigmoid(odds + noise) = y / (y + (1 - y) e^odds): no logarithm for the noise.
        level = bits.float().add_(LEVELS // 2 + 0.5)  # y * LEVELS
        odds_now = odd.exp()
        below = torch.lerp(level, levels, odds_now, out=odds_now)
        torch.addcdiv(one, level, below, value=-2.0, out=share).clamp_(0.0, OPEN)


def gated_values(start: Tensor, difference: Tensor, shares: Tensor, whole: float, out: Tensor) -> Tensor:
    """start + gate * whole * difference, where `whole` is a gate over all of them."""
    for base, change, share, value in _pieces(start, difference, shares, out):
        torch.addcmul(base, share, change, value=HIGHEST * whole, out=value)
    return out


def fill_grads(grad: Tensor, difference: Tensor, shares: Tensor, whole: float, to: tuple[Tensor, Tensor]) -> Tensor:
    """`grad` is what `gated_values` gave's. Fills those of differences and of log odds; returns the whole gate's."""
    zero, to_whole = grad.new_zeros(()), grad.new_zeros(())
    for slope, change, share, to_difference, to_odds in _pieces(grad, difference, shares, *to):
        torch.addcmul(zero, slope, share, value=HIGHEST * whole, out=to_difference)
        product = slope * change
        to_whole += torch.dot(product, share)
        _aten.tanh_backward.grad_input(product, share, grad_input=product)
        # Where a gate is clamped, nothing comes back.
        _aten.hardtanh_backward.grad_input(product, share, 0.0, OPEN, grad_input=to_odds)
        to_odds.mul_(HIGHEST / 2 * whole)
    return HIGHEST * to_whole


def slopes(shares: Tensor) -> Tensor:
    """How fast gates grow with their log odds."""
    return (HIGHEST / 2 * (1 - shares**2)).masked_fill_((shares == 0) | (shares >= OPEN), 0.0)


def penalize(odds: Tensor, weight: float, grad: Tensor) -> Tensor:
    """`weight` times the expected number of gates that are not shut; its gradient is added to `grad`."""
    count = odds.new_zeros(1)
    for odd, to_odds in _pieces(odds, grad):
        is_open = odd.sigmoid()  # the stretch is symmetric: half of it lies above 0
        count += is_open.sum()
        to_odds.add_(is_open, alpha=weight).addcmul_(is_open, is_open, value=-weight)
    return weight * count


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same piece of each; one number stands for all of its tensor's."""
    sizes = max(tensor.numel() for tensor in tensors)
    piece = PIECE if tensors[-1].is_cpu else max(1, sizes)  # a GPU gains nothing by small ones
    parts = [tensor.expand(sizes).split(piece) for tensor in tensors]
    return zip(*parts, strict=True)
