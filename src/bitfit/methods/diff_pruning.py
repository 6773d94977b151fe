"""`diff-pruning`: a sparse difference to the encoder, found by gates (Guo and others, 2020).

First every weight has a difference and a gate: value = pretrained + gate * difference. A gate can close: it is drawn
from the hard concrete distribution (Louizos and others, 2018), sigmoid(log odds + logistic noise), stretched to
-1.5 ... 1.5 and clamped to 0 ... 1. A penalty counts those that may be open (the L0 norm, relaxed). `structured`
multiplies each gate by one for its whole tensor. Then the largest differences stay, half a percent of the encoder,
and they alone train on.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitfit.backbone.anatomy import encoder_of
from bitfit.backbone.device import CPU
from bitfit.errors import RequestError
from bitfit.methods.family import Family
from bitfit.methods.full import Full
from bitfit.methods.name import MethodName
from bitfit.methods.selection import Slot
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.dropout import Draws
from bitfit.runtime.row_model import RowModel

PIECE = 1 << 16  # elements
LEVELS = 1 << 16  # of a uniform draw
HIGHEST = 1.5  # a gate is drawn from -HIGHEST to HIGHEST
# A *share* is a gate over HIGHEST: clamp(tanh((odds + noise) / 2), 0, OPEN). It grows by (1 - share ** 2) / 2.
OPEN = 1 / HIGHEST
_aten = torch.ops.aten
STRUCTURED = "structured"
SHARE = 0.005  # of the encoder's parameters: what stays
PENALTY = 1.25e-7  # on each gate's chance of being open
GATE_START = 5.0  # log odds: nearly all open
GATE_RATE = 0.1  # learning rate of the gates


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


class DiffPruning(Family):
    """Gates over the whole encoder, then what they leave."""

    learning_rate = 5e-5
    phases = ("gates", "left")

    def __post_init__(self) -> None:
        if self.name.layers or self.name.terms not in ((), (STRUCTURED,)):
            raise RequestError(
                f"'diff-pruning' prunes the whole encoder, or 'diff-pruning[{STRUCTURED}]'; found '{self.name.text}'."
            )

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        """Everything: the first phase decides what stays."""
        return Full(MethodName("full")).slots(model, seed)

    def count(self, model: nn.Module) -> int:
        return count_left(model)

    def theta(self, slots: Sequence[Slot], model: PreTrainedModel, fast: RowModel, rate: float) -> ThetaMap:
        return GatedTheta(slots, model, bool(self.name.terms), rate, fast.device)

    def next_phase(
        self, model: PreTrainedModel, theta: ThetaMap, values: Tensor
    ) -> tuple[list[Slot], dict[str, Tensor]]:
        assert isinstance(theta, GatedTheta)
        slots, whole = theta.pruned(values, count_left(model))
        return slots, {**whole, **theta.head_of(values)}


def count_left(model: nn.Module) -> int:
    """How many elements stay."""
    return round(SHARE * sum(parameter.numel() for parameter in encoder_of(model).parameters()))


class GatedTheta(ThetaMap):
    """Theta of the first phase: differences, the head, the gates' log odds, those of whole tensors; one row."""

    def __init__(
        self, slots: Sequence[Slot], model: nn.Module, structured: bool, rate: float, device: torch.device = CPU
    ) -> None:
        gated = [slot for slot in slots if not slot.in_head and not slot.inert]
        super().__init__([*gated, *(slot for slot in slots if slot.in_head)], model, device=device)
        self.gated, self.structured, self.rate = gated, structured, rate
        self.head_sizes = [slot.size for slot in self.slots if slot.in_head]
        self.bounds = (0, *accumulate(slot.size for slot in gated))
        self.spans = [slice(*ends) for ends in pairwise(self.bounds)]
        self.gates = self.bounds[-1]
        self.values = super().size
        self.pretrained = self.start[: self.gates]

    @property
    def size(self) -> int:
        return self.values + self.gates + (len(self.gated) if self.structured else 0)

    def starting_row(self, head: Mapping[str, Tensor]) -> Tensor:
        row = torch.full((self.size,), GATE_START, device=self.device)
        row[: self.values] = super().starting_row(head)
        row[: self.gates] = 0.0  # differences, not values
        return row

    def decays(self) -> Tensor:
        """The head's decay as ever; differences and gates have the penalty instead."""
        decays = torch.zeros(self.size)
        decays[: self.values] = super().decays()
        decays[: self.gates] = 0.0
        return decays

    def rates(self) -> Tensor:
        """Gates have a learning rate of their own."""
        rates = torch.ones(self.size)
        rates[self.values :] = GATE_RATE / self.rate
        return rates

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Every gate as it stands, without a draw."""
        return self._named(theta, None)

    def drawn(self, theta: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Every gate drawn afresh."""
        return self._named(theta, draws.bits([self.size - self.values]))

    def add_penalty(self, theta: Tensor) -> Tensor:
        """The expected number of open gates, weighed."""
        assert theta.grad is not None
        return penalize(theta.detach()[0, self.values :], PENALTY, theta.grad[0, self.values :])

    def difference(self, theta: Tensor) -> Tensor:
        """What each gated element differs by, without a draw; (gated elements,)."""
        parts, nothing = self.parts(theta), torch.zeros(1, device=self.device)
        shares, wholes = self.shares(parts, None)
        for at, whole in zip(self.spans, self.factors(wholes), strict=True):
            gated_values(nothing, parts.differences[at], shares[at], whole, shares[at])
        return shares

    def parts(self, row: Tensor) -> "ThetaParts":
        """A theta, or its gradient, taken apart."""
        groups = self.size - self.values - self.gates
        return ThetaParts(*row.detach()[0].split([self.gates, self.values - self.gates, self.gates, groups]))

    def shares(self, parts: "ThetaParts", draws: Tensor | None) -> tuple[Tensor, Tensor]:
        """The gates of all elements, and of whole tensors: as many as there are, or none."""
        gates = torch.empty_like(parts.odds), torch.empty_like(parts.whole_odds)
        bits = (None, None) if draws is None else draws.split([len(share) for share in gates])
        fill_shares(parts.odds, bits[0], gates[0])
        fill_shares(parts.whole_odds, bits[1], gates[1])
        return gates

    def factors(self, wholes: Tensor) -> list[float]:
        """The gate of each whole tensor; 1 where they have none."""
        return [HIGHEST * share for share in wholes.tolist()] if self.structured else [1.0] * len(self.gated)

    def _named(self, theta: Tensor, draws: Tensor | None) -> dict[str, Tensor]:
        """The parameters, each the pretrained one and its gated difference, and the head's."""
        parts: tuple[Tensor, ...] = _Gated.apply(theta, draws, self)  # type: ignore[no-untyped-call]
        return self.named([part[None] for part in parts])

    def pruned(self, theta: Tensor, count: int) -> tuple[list[Slot], dict[str, Tensor]]:
        """The `count` largest differences: their slots, and the whole parameters with these alone changed."""
        with torch.no_grad():
            difference = self.difference(theta)
            top = torch.topk(difference.abs(), count, sorted=False).indices.sort().values
            whole = {slot.name: self.whole(slot.name) for slot in self.gated}
            cuts = torch.searchsorted(top, torch.tensor(self.bounds, device=self.device)).tolist()
            slots = []
            for number, slot in enumerate(self.gated):
                largest = top[cuts[number] : cuts[number + 1]]
                if len(largest):
                    inside = (largest - self.bounds[number]).cpu().numpy()
                    index = inside if slot.index is None else slot.index[inside]
                    whole[slot.name].view(-1)[torch.from_numpy(index).to(self.device)] += difference[largest]
                    slots.append(Slot(slot.name, slot.shape, index.astype(np.int64), part=slot.part))
        return slots, whole

    def whole(self, name: str) -> Tensor:
        """A copy of a pretrained parameter."""
        slot = next(slot for slot in self.gated if slot.name == name)
        if slot.index is not None:
            return self.rest[name].clone()
        number = self.gated.index(slot)
        return self.pretrained[self.bounds[number] : self.bounds[number + 1]].clone().view(slot.shape)

    def head_of(self, theta: Tensor) -> dict[str, Tensor]:
        """The head's parameters in a row."""
        parts = self.parts(theta).head.split(self.head_sizes)
        slots = [slot for slot in self.slots if slot.in_head]
        return {slot.name: part.clone().view(slot.shape) for slot, part in zip(slots, parts, strict=True)}


class ThetaParts(NamedTuple):
    """What a row of the first phase holds, each flat."""

    differences: Tensor
    head: Tensor
    odds: Tensor
    whole_odds: Tensor  # of whole tensors


class _Gated(torch.autograd.Function):
    """A row -> each parameter's values, flat. The way back needs the gates alone, and makes one gradient at once."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, draws: Tensor | None, gated: GatedTheta) -> tuple[Tensor, ...]:
        parts = gated.parts(theta)
        shares, wholes = gated.shares(parts, draws)
        ctx.save_for_backward(theta, shares, wholes)
        ctx.gated = gated
        ctx.set_materialize_grads(False)
        spans = zip(gated.spans, gated.factors(wholes), strict=True)
        values = [
            gated_values(start, parts.differences[at], shares[at], whole, torch.empty_like(start))
            for at, whole in spans
            for start in (gated.pretrained[at],)
        ]
        return (*values, *parts.head.clone().split(gated.head_sizes))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None, None]:
        theta, shares, wholes = ctx.saved_tensors
        gated: GatedTheta = ctx.gated
        to_theta = torch.empty_like(theta)
        parts, to = gated.parts(theta), gated.parts(to_theta)
        to_wholes = torch.zeros(len(gated.gated), device=gated.device)
        for number, (at, whole) in enumerate(zip(gated.spans, gated.factors(wholes), strict=True)):
            grad, filled = grads[number], (to.differences[at], to.odds[at])
            if grad is None:  # the model does not look at it
                filled[0].zero_(), filled[1].zero_()
            else:
                to_wholes[number] = fill_grads(grad.reshape(-1), parts.differences[at], shares[at], whole, filled)
        if gated.structured:
            torch.mul(to_wholes, slopes(wholes), out=to.whole_odds)
        for part, grad in zip(to.head.split(gated.head_sizes), grads[len(gated.gated) :], strict=True):
            part.zero_() if grad is None else part.copy_(grad)
        return to_theta, None, None
