"""A linear layer with a frozen weight, which keeps no input and takes a bias for each row.

It takes what the current pass has for its parameters: nothing (then the backbone's own tensors), one trained value, or
a value for each row.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from bitfit.runtime.passes import Pass, current
from bitfit.runtime.segments import Segments, bias_sums, linear_of_rows
from bitfit.runtime.sites import affine, inserted


class FastLinear(nn.Module):
    """x W^T + b, with one W for all rows and a b for each; or, in a head, with a W for each row too."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, linear: nn.Module, compute: torch.dtype) -> None:
        super().__init__()
        self.compute = compute
        self.turned = isinstance(linear, Conv1D)  # its weight is (in, out)
        weight, bias = linear.weight, linear.bias
        assert isinstance(weight, nn.Parameter)
        self.weight = weight if weight.dtype == compute else untrained(weight.detach().to(compute))
        self.bias = bias if isinstance(bias, nn.Parameter) else None
        self.gain, self.shift = inserted(linear, "gain"), inserted(linear, "shift")
        self.input_gain = inserted(linear, "input_gain")
        self.joint: Callable[[Tensor, Pass], Tensor | None] | None = None  # computes this layer and others at once

    def forward(self, x: Tensor) -> Tensor:
        now = current()
        if self.input_gain is not None:
            x = affine(x, now.value(self.input_gain), None, now.segments)
        y = None if self.joint is None else self.joint(x, now)
        if y is None:
            y = self._alone(x, now)
        if self.gain is None:
            return y
        return affine(y, now.value(self.gain), now.value(self.shift), now.segments)

    def added(self, now: Pass) -> Tensor | None:
        """What is added to the product: the bias, and the shift where no gain comes between the two."""
        bias, shift = now.value(self.bias), now.value(self.shift) if self.gain is None else None
        return bias if shift is None else shift if bias is None else bias + shift

    def _alone(self, x: Tensor, now: Pass) -> Tensor:
        x = x.to(self.compute)
        weight, bias = now.value(self.weight), self.added(now)
        assert weight is not None
        weight = weight.transpose(-1, -2) if self.turned else weight
        if weight.dim() == 3:
            assert now.segments is not None
            return linear_of_rows(x, weight, bias, now.segments)
        if weight.requires_grad:
            return functional.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        weight = weight.to(x.dtype)  # one that trained is handed in as fp32, without gradient where it is only used
        result: Tensor = _FrozenLinear.apply(x, weight, bias, now.segments)  # type: ignore[no-untyped-call]
        return result


class _FrozenLinear(torch.autograd.Function):
    """Linear with a weight that never trains: the backward pass needs no input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, segments: Segments | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.segments, ctx.many = segments, bias is not None and bias.dim() == 2
        return with_bias(x, weight, bias, segments)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        (g,) = grads
        to_x = g @ weight if ctx.needs_input_grad[0] else None
        to_bias = bias_sums(g, ctx.segments, ctx.many) if ctx.needs_input_grad[2] else None
        return to_x, None, to_bias, None


def with_bias(x: Tensor, weight: Tensor, bias: Tensor | None, segments: Segments | None) -> Tensor:
    """x W^T + b, where b is one for all or (rows, out)."""
    if bias is None:
        return functional.linear(x, weight)
    flat = x.reshape(-1, x.shape[-1])
    if bias.dim() == 2:
        assert segments is not None
        # The product is added to the biases: one pass over the answers less than the other way round.
        y = segments.spread(bias.to(x.dtype), len(flat)).addmm_(flat, weight.t())
    else:
        y = functional.linear(flat, weight, bias.to(x.dtype))
    # A plain view could not be changed in place, which some models do with their queries.
    return torch.ops.aten._unsafe_view(y, (*x.shape[:-1], len(weight)))  # type: ignore[no-any-return]


def untrained(values: Tensor) -> nn.Parameter:
    """A parameter that never trains."""
    return nn.Parameter(values, requires_grad=False)
