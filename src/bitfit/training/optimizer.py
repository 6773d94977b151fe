"""AdamW over a matrix: each row has its own rate, clipping and count of steps."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from bitfit.backbone.device import to_device

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
LARGE = 1 << 20  # numbers in a row from which on torch's fused kernel pays: it reads and writes each one once


class RowAdamW:
    """Adam's two averages for each number of theta. No decay where `decays` is zero; `factors` are those of the
    learning rate, where numbers differ in it."""

    def __init__(self, theta: Tensor, decays: Tensor, factors: Tensor | None = None, large: int = LARGE) -> None:
        self.theta = theta  # (rows, P), changed in place
        self.stretches = _stretches(decays, factors) if len(theta) == 1 and theta.shape[1] >= large else None
        whole = self.stretches is None
        self.factors = factors.to(theta.device) if whole and factors is not None else None  # (P,)
        self.decays = decays.to(theta.device) if whole and bool(decays.any()) else None  # (P,)
        self.mean, self.square = torch.zeros_like(theta), torch.zeros_like(theta)
        self.steps = torch.zeros(theta.shape[0], 1, device=theta.device)

    @torch.no_grad()
    def step(self, grad: Tensor, rates: Sequence[float], clips: Sequence[float], decay: Sequence[float]) -> None:
        """One step down; `grad` is changed. Each sequence has a value for each row."""
        limits, scale = [clip or math.inf for clip in clips], None
        table = to_device(torch.tensor([rates, limits, decay]), self.theta.device)
        rate, limit, decays = table[..., None]  # a column each
        if any(clips):
            norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
            scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        self.steps += 1
        if self.stretches is not None:
            self._step_fused(self.stretches, grad, (rates[0], decay[0]), scale)
            return
        if scale is not None:
            grad.mul_(scale)
        self.mean.lerp_(grad, 1 - BETA_1)
        self.square.mul_(BETA_2).addcmul_(grad, grad, value=1 - BETA_2)
        if self.decays is not None:
            self.theta.mul_(1 - (rate * decays) * self.decays)
        down = grad.copy_(self.square).div_(1 - BETA_2**self.steps).sqrt_().add_(EPSILON)
        change = torch.div(self.mean, down, out=down).mul_(rate / (1 - BETA_1**self.steps))
        self.theta.sub_(change if self.factors is None else change.mul_(self.factors))

    def _step_fused(
        self, stretches: "Stretches", grad: Tensor, rate_decay: tuple[float, float], scale: Tensor | None
    ) -> None:
        """The same for one large row."""
        rate, decay = rate_decay
        for (decays, factor), slices in stretches.items():
            torch._fused_adamw_(
                [self.theta[0, at] for at in slices],
                [grad[0, at] for at in slices],
                [self.mean[0, at] for at in slices],
                [self.square[0, at] for at in slices],
                [],
                [self.steps[0, 0]] * len(slices),
                lr=rate * factor,
                beta1=BETA_1,
                beta2=BETA_2,
                weight_decay=decay * decays / factor,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
                grad_scale=None if scale is None else scale[0, 0].reciprocal(),
            )

    def select(self, theta: Tensor, rows: Sequence[int]) -> None:
        """Go on with these rows alone; `theta` is already theirs."""
        which = to_device(torch.tensor(rows), theta.device)
        self.theta = theta
        self.mean, self.square, self.steps = self.mean[which], self.square[which], self.steps[which]

    def state(self) -> dict[str, Tensor]:
        """What it remembers, by name; not copied."""
        return {"mean": self.mean, "square": self.square, "steps": self.steps}

    def restore(self, theta: Tensor, state: Mapping[str, Tensor]) -> None:
        """Be as `state` was; `theta` is already so."""
        self.theta = theta
        self.mean, self.square, self.steps = state["mean"], state["square"], state["steps"]


# Where the numbers of a row have the same (decay, factor).
Stretches = dict[tuple[float, float], list[slice]]


def _stretches(decays: Tensor, factors: Tensor | None) -> Stretches:
    """Both are constant over long stretches: a few for each parameter."""
    changes = decays[1:] != decays[:-1]
    if factors is not None:
        changes |= factors[1:] != factors[:-1]
    ends = [0, *(changes.nonzero()[:, 0] + 1).tolist(), len(decays)]
    stretches: Stretches = {}
    for start, stop in pairwise(ends):
        factor = 1.0 if factors is None else float(factors[start])
        stretches.setdefault((float(decays[start]), factor), []).append(slice(start, stop))
    return stretches
