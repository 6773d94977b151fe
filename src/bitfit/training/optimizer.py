"""AdamW over a matrix: each row has its own learning rate, its own clipping and its own count of steps."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class RowAdamW:
    """Adam's two averages for each number of theta. No decay where `decays` is zero; `factors` are those of the
    learning rate, where numbers differ in it."""

    def __init__(self, theta: Tensor, decays: Tensor, factors: Tensor | None = None) -> None:
        self.theta, self.factors = theta, factors  # (rows, P), changed in place; (P,)
        self.decays = decays if bool(decays.any()) else None  # (P,)
        self.mean, self.square = torch.zeros_like(theta), torch.zeros_like(theta)
        self.steps = torch.zeros(theta.shape[0], 1)

    @torch.no_grad()
    def step(self, grad: Tensor, rates: Sequence[float], clips: Sequence[float], decay: Sequence[float]) -> None:
        """One step down; `grad` is changed. Each sequence has a value for each row."""
        limit = _column(clips)
        if float(limit.max()) > 0:
            norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
            grad.mul_(torch.where(limit > 0, (limit / (norm + 1e-6)).clamp(max=1.0), 1.0))
        self.steps += 1
        self.mean.lerp_(grad, 1 - BETA_1)
        self.square.mul_(BETA_2).addcmul_(grad, grad, value=1 - BETA_2)
        rate = _column(rates)
        if self.decays is not None:
            self.theta.mul_(1 - (rate * _column(decay)) * self.decays)
        down = grad.copy_(self.square).div_(1 - BETA_2**self.steps).sqrt_().add_(EPSILON)
        change = torch.div(self.mean, down, out=down).mul_(rate / (1 - BETA_1**self.steps))
        self.theta.sub_(change if self.factors is None else change.mul_(self.factors))

    def select(self, theta: Tensor, rows: Sequence[int]) -> None:
        """Go on with these rows alone; `theta` is already theirs."""
        which = torch.tensor(rows)
        self.theta = theta
        self.mean, self.square, self.steps = self.mean[which], self.square[which], self.steps[which]

    def state(self) -> dict[str, Tensor]:
        """What it remembers, by name; not copied."""
        return {"mean": self.mean, "square": self.square, "steps": self.steps}

    def restore(self, theta: Tensor, state: Mapping[str, Tensor]) -> None:
        """Be as `state` was; `theta` is already so."""
        self.theta = theta
        self.mean, self.square, self.steps = state["mean"], state["square"], state["steps"]


def _column(values: Sequence[float]) -> Tensor:
    """A value for each row, as a column."""
    return torch.tensor(values, dtype=torch.float32)[:, None]
