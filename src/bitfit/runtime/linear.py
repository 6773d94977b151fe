"""A linear layer whose weight never trains: it keeps no input, and adds to each token its own row's bias.

It takes whatever stands under its parameter names when it runs: the backbone's own tensors, one trained value, or a
value for each row. Knows nothing of tasks, files or optimizers.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from bitfit.runtime.layout import Flow


class FastLinear(nn.Module):
    """x W^T + b, with one W for all rows and a b for each; or, in a head, with a W for each row too."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, linear: nn.Module, flow: Flow, compute: torch.dtype) -> None:
        super().__init__()
        self.flow, self.compute = flow, compute
        self.turned = isinstance(linear, Conv1D)  # its weight is (in, out)
        weight, bias = linear.weight, linear.bias
        assert isinstance(weight, nn.Parameter)
        self.weight = weight if weight.dtype == compute else untrained(weight.detach().to(compute))
        self.bias = bias if isinstance(bias, nn.Parameter) else None
        self.joint: Callable[[Tensor], Tensor | None] | None = None  # computes this layer and others at once

    def forward(self, x: Tensor) -> Tensor:
        found = None if self.joint is None else self.joint(x)
        return self._alone(x) if found is None else found

    def _alone(self, x: Tensor) -> Tensor:
        x = x.to(self.compute)
        weight = self.weight.transpose(-1, -2) if self.turned else self.weight
        bounds = self.flow.layout.bounds_in(x)
        if weight.dim() == 3:
            return _linear_of_each_row(x, weight, self.bias, bounds)
        if weight.requires_grad:
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return functional.linear(x, weight.to(x.dtype), bias)
        weight = weight.to(x.dtype)  # one that trained is handed in as fp32, without gradient where it is only used
        result: Tensor = _FrozenLinear.apply(x, weight, self.bias, bounds)  # type: ignore[no-untyped-call]
        return result


class _FrozenLinear(torch.autograd.Function):
    """Linear with a weight that never trains: the backward pass needs no input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, bounds: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.bounds, ctx.many = bounds, bias is not None and bias.dim() == 2
        return with_bias(x, weight, bias, bounds)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        (g,) = grads
        to_x = g @ weight if ctx.needs_input_grad[0] else None
        to_bias = sum_rows(g, ctx.bounds, ctx.many) if ctx.needs_input_grad[2] else None
        return to_x, None, to_bias, None


def with_bias(x: Tensor, weight: Tensor, bias: Tensor | None, bounds: tuple[int, ...]) -> Tensor:
    """x W^T + b, where b is one for all or (rows, out)."""
    if bias is None:
        return functional.linear(x, weight)
    if bias.dim() == 2:
        return add_rows(functional.linear(x, weight), bias, bounds)
    y = functional.linear(x.reshape(-1, x.shape[-1]), weight, bias.to(x.dtype))
    # A plain view could not be changed in place, which some models do with their queries.
    return torch.ops.aten._unsafe_view(y, (*x.shape[:-1], len(weight)))  # type: ignore[no-any-return]


def add_rows(y: Tensor, bias: Tensor, bounds: tuple[int, ...]) -> Tensor:
    """Add to each entry, in place, the bias of its row."""
    flat, values = y.view(-1, y.shape[-1]), bias.to(y.dtype)
    for row, (start, stop) in enumerate(pairwise(bounds)):
        flat[start:stop].add_(values[row])
    return y


def sum_rows(g: Tensor, bounds: tuple[int, ...], many: bool) -> Tensor:
    """The gradient of a bias: the sum over its entries, for each row where there are many; fp32."""
    flat = g.reshape(-1, g.shape[-1])
    if not many:
        return flat.sum(0).float()
    return torch.stack([flat[start:stop].sum(0) for start, stop in pairwise(bounds)]).float()


def _linear_of_each_row(x: Tensor, weight: Tensor, bias: Tensor | None, bounds: tuple[int, ...]) -> Tensor:
    """A head's linear layer, whose weight (rows, out, in) is each row's own."""
    flat = x.reshape(-1, x.shape[-1])
    parts = [
        functional.linear(flat[start:stop], weight[row], None if bias is None else bias[row])
        for row, (start, stop) in enumerate(pairwise(bounds))
    ]
    return torch.cat(parts).view(*x.shape[:-1], math.prod(weight.shape[1:2]))


def untrained(values: Tensor) -> nn.Parameter:
    """A parameter that never trains."""
    return nn.Parameter(values, requires_grad=False)
