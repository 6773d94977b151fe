"""`diff-pruning` (Guo and others, 2020): a sparse difference to the whole encoder, found by gates that can close.

First every weight has a difference and a gate: value = pretrained + gate * difference. Gates are drawn from a
stretched concrete distribution, and a penalty counts those that may be open (the L0 norm, relaxed). `structured`
multiplies each gate by one for its whole tensor. Then the largest differences stay, half a percent of the encoder,
and they alone train on. Knows nothing of data or of the loop.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitfit.backbone.anatomy import encoder_of
from bitfit.backbone.draws import Draws
from bitfit.errors import RequestError
from bitfit.methods.names import MethodName
from bitfit.methods.row import RowMap
from bitfit.methods.slots import Slot

FAMILY = "diff-pruning"
STRUCTURED = "structured"
SHARE = 0.005  # of the encoder's parameters: what is kept
PENALTY = 1.25e-7  # on each gate's chance of being open
LOWEST, HIGHEST = -1.5, 1.5  # a gate is drawn from this stretch, then clamped to 0 ... 1
GATE_START = 5.0  # log odds: nearly all open
GATE_RATE = 0.1  # learning rate of the gates
LEVELS = 1 << 16  # of a uniform draw


def is_structured(name: MethodName) -> bool:
    """Whether whole tensors have gates too; other words are refused."""
    if name.layers or name.terms not in ((), (STRUCTURED,)):
        raise RequestError(f"'{FAMILY}' prunes the whole encoder, or '{FAMILY}[{STRUCTURED}]'; found '{name.text}'.")
    return bool(name.terms)


def kept(model: nn.Module) -> int:
    """How many elements stay."""
    return round(SHARE * sum(parameter.numel() for parameter in encoder_of(model).parameters()))


class GatedRows(RowMap):
    """Theta of the first phase: differences, the head, the gates' log odds, those of whole tensors; one row."""

    def __init__(self, slots: Sequence[Slot], model: nn.Module, structured: bool, rate: float) -> None:
        gated = [slot for slot in slots if not slot.in_head and not slot.inert]
        super().__init__([*gated, *(slot for slot in slots if slot.in_head)], model)
        self.gated, self.structured, self.rate = gated, structured, rate
        self.bounds = (0, *accumulate(slot.size for slot in gated))
        self.gates = self.bounds[-1]
        self.values = super().size
        self.pretrained = self.start[: self.gates]

    @property
    def size(self) -> int:
        return self.values + self.gates + (len(self.gated) if self.structured else 0)

    def starting_row(self, head: Mapping[str, Tensor]) -> Tensor:
        row = torch.full((self.size,), GATE_START)
        row[: self.values] = super().starting_row(head)
        row[: self.gates] = 0.0  # differences, not values
        return row

    def decays(self) -> Tensor:
        """The head's decay as ever; differences and gates are held back by the penalty."""
        found = torch.zeros(self.size)
        found[: self.values] = super().decays()
        found[: self.gates] = 0.0
        return found

    def rates(self) -> Tensor:
        """Gates have a learning rate of their own."""
        found = torch.ones(self.size)
        found[self.values :] = GATE_RATE / self.rate
        return found

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Every gate as it stands, without a draw."""
        return self._named(theta, None)

    def drawn(self, theta: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Every gate drawn afresh."""
        count = theta.shape[1] - self.values
        uniform = draws.bits([count]).float().add_(LEVELS // 2 + 0.5).div_(LEVELS)
        return self._named(theta, uniform.logit_())

    def penalty(self, theta: Tensor) -> Tensor:
        """The expected number of open gates, weighed; (rows,)."""
        return PENALTY * torch.sigmoid(theta[:, self.values :] - math.log(-LOWEST / HIGHEST)).sum(1)

    def difference(self, theta: Tensor) -> Tensor:
        """What each gated element differs by, without a draw; (gated elements,)."""
        difference, _, odds = self._parts(theta)
        return torch.cat(self._gated(difference, odds, None))

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Differences, the head, log odds. One split: the way back through a slice fills a whole theta each time."""
        found = theta[0].split([self.gates, self.values - self.gates, self.size - self.values])
        return found[0], found[1], found[2]

    def _gated(self, difference: Tensor, odds: Tensor, noise: Tensor | None) -> list[Tensor]:
        """What the elements of each slot differ by."""
        gates: Tensor = _Gate.apply(odds, noise)  # type: ignore[no-untyped-call]
        sizes = [slot.size for slot in self.gated]
        own, whole = gates.split([self.gates, len(gates) - self.gates])
        found = list((difference * own).split(sizes))
        return [part * gate for part, gate in zip(found, whole, strict=True)] if self.structured else found

    def _named(self, theta: Tensor, noise: Tensor | None) -> dict[str, Tensor]:
        """The parameters, each the pretrained one and its gated difference, and the head's."""
        difference, head, odds = self._parts(theta)
        parts = self._gated(difference, odds, noise)
        own = self.pretrained.split([slot.size for slot in self.gated])
        values = [start + part for start, part in zip(own, parts, strict=True)]
        heads = [slot.size for slot in self.slots if slot.in_head]
        return self.named([part[None] for part in (*values, *head.split(heads))])

    def pruned(self, theta: Tensor, count: int) -> tuple[list[Slot], dict[str, Tensor]]:
        """The `count` largest differences: their slots, and the whole parameters with these alone changed."""
        with torch.no_grad():
            difference = self.difference(theta)
            top = torch.topk(difference.abs(), count, sorted=False).indices.sort().values
            whole = {slot.name: self.whole(slot.name) for slot in self.gated}
            cuts = torch.searchsorted(top, torch.tensor(self.bounds)).tolist()
            slots = []
            for number, slot in enumerate(self.gated):
                here = top[cuts[number] : cuts[number + 1]]
                if len(here):
                    place = here - self.bounds[number]
                    index = place.numpy() if slot.index is None else slot.index[place.numpy()]
                    whole[slot.name].view(-1)[torch.from_numpy(index)] += difference[here]
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
        sizes = [slot.size for slot in self.slots if slot.in_head]
        parts = theta[0].detach()[self.gates : self.values].split(sizes)
        slots = [slot for slot in self.slots if slot.in_head]
        return {slot.name: part.clone().view(slot.shape) for slot, part in zip(slots, parts, strict=True)}


class _Gate(torch.autograd.Function):
    """clamp(stretched sigmoid) of log odds and noise, which is overwritten; the way back needs the gate alone."""

    @staticmethod
    def forward(ctx: Any, odds: Tensor, noise: Tensor | None) -> Tensor:
        gate = odds.sigmoid() if noise is None else noise.add_(odds).sigmoid_()
        gate.mul_(HIGHEST - LOWEST).add_(LOWEST).clamp_(0.0, 1.0)
        ctx.save_for_backward(gate)
        return gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        above = gate - LOWEST
        slope = (HIGHEST - gate).mul_(above).mul_(grads[0]).div_(HIGHEST - LOWEST)
        return slope.masked_fill_((gate == 0) | (gate == 1), 0.0), None
