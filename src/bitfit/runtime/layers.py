"""Layers whose weights never train, made fast: they keep no inputs, and add to each token its own row's bias.

`quicken` swaps the linear, norm and dropout layers of a transformers model for these, under the same names. A
layer takes whatever stands under its parameter names when it runs: the backbone's own tensors, one trained
value, or a value for each row. Knows nothing of tasks, files or optimizers.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers.pytorch_utils import Conv1D

from bitfit.runtime.layout import Flow, Layout
from bitfit.runtime.linear import FastLinear, add_rows, sum_rows


def replace_layers(model: nn.Module, flow: Flow, compute: torch.dtype) -> None:
    """Swap every layer of the kinds below in place; weights of linear layers are kept in `compute`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            fast = _fast(child, flow, compute)
            if fast is not None:
                fast.train(child.training)
                setattr(parent, name, fast)


def _fast(layer: nn.Module, flow: Flow, compute: torch.dtype) -> nn.Module | None:
    """The fast layer for this one, or None. Sub-classes may do something else, so the type must be exact."""
    if type(layer) in (nn.Linear, Conv1D):
        return FastLinear(layer, flow, compute)
    if type(layer) is nn.LayerNorm and layer.elementwise_affine and len(layer.normalized_shape) == 1:
        return FastNorm(layer, flow, compute)
    if type(layer) is nn.Dropout:
        return FastDropout(layer.p, flow)
    return None


class FastNorm(nn.Module):
    """Layer normalization with fp32 statistics; one scale for all rows and a bias for each."""

    def __init__(self, norm: nn.LayerNorm, flow: Flow, compute: torch.dtype) -> None:
        super().__init__()
        self.flow, self.compute, self.eps = flow, compute, norm.eps
        self.normalized_shape = norm.normalized_shape
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        bounds = self.flow.layout.bounds_in(x)
        if self.weight.dim() == 2:
            return _norm_of_each_row(x.float(), self.weight, self.bias, self.eps, self.flow.layout).to(self.compute)
        if self.weight.requires_grad:
            y = functional.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps)
            return y.to(self.compute)
        result: Tensor = _FrozenNorm.apply(x, self.weight, self.bias, self.eps, bounds, self.compute)  # type: ignore[no-untyped-call]
        return result


class FastDropout(nn.Module):
    """Dropout with the draws of each row's own generator."""

    def __init__(self, rate: float, flow: Flow) -> None:
        super().__init__()
        self.p, self.flow = rate, flow  # transformers' attention layers read `p`

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0.0 or self.flow.draws is None or not self.training:
            return x
        each = x.shape[-1]
        bounds = self.flow.layout.bounds(x.numel() // each)
        sizes = [(stop - start) * each for start, stop in pairwise(bounds)]
        # All bits set where an element is kept, none where it is dropped; (entries of all rows, size).
        keep = self.flow.signs(sizes, 1.0 - self.p).bitwise_right_shift_(15).view(-1, each)
        keep = keep if x.element_size() == 2 else keep.to(torch.int32)
        result: Tensor = _Dropout.apply(x, keep, 1.0 / (1.0 - self.p))  # type: ignore[no-untyped-call]
        return result


class FunctionalDropout(TorchFunctionMode):
    """While it is entered, calls of torch's own dropout draw as FastDropout does."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not functional.dropout:
            return func(*args, **(kwargs or {}))
        return self._dropout(*args, **(kwargs or {}))

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        del inplace  # the result is what counts
        result: Tensor = FastDropout(p, self.flow).train(training)(x)
        return result


class _FrozenNorm(torch.autograd.Function):
    """Layer normalization whose scale never trains."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        eps: float,
        bounds: tuple[int, ...],
        compute: torch.dtype,
    ) -> Tensor:
        ctx.many = bias is not None and bias.dim() == 2
        own = None if ctx.many else bias
        y, mean, spread = torch.native_layer_norm(_of_one_format(x), (x.shape[-1],), scale, own, eps)
        ctx.save_for_backward(x, mean, spread, scale)
        ctx.bounds = bounds
        y = y.to(compute)
        return add_rows(y, bias, bounds) if ctx.many and bias is not None else y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, spread, scale = ctx.saved_tensors
        (g,) = grads
        to_x = None
        if ctx.needs_input_grad[0]:
            wide = _of_one_format(x)
            to_x = torch.ops.aten.native_layer_norm_backward(
                g.to(wide.dtype), wide, (x.shape[-1],), mean, spread, scale, None, [True, False, False]
            )[0].to(x.dtype)
        to_bias = sum_rows(g, ctx.bounds, ctx.many) if ctx.needs_input_grad[2] else None
        return to_x, None, to_bias, None, None, None


class _Dropout(torch.autograd.Function):
    """value & mask, times what makes up for the dropped share; the same on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, gain: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.gain = gain
        return _masked(x, keep, gain)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (keep,) = ctx.saved_tensors
        return _masked(grads[0], keep, ctx.gain), None, None


def _masked(x: Tensor, keep: Tensor, gain: float) -> Tensor:
    """x where the mask has its bits, zero elsewhere (at filler too), scaled."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    bits, result = (part.view(keep.dtype).view(-1, keep.shape[1]) for part in (x.contiguous(), y))
    torch.bitwise_and(bits[: len(keep)], keep, out=result[: len(keep)])
    result[len(keep) :] = 0
    return y.mul_(gain)


def _of_one_format(x: Tensor) -> Tensor:
    """What a norm's kernel takes beside an fp32 scale: a processor's anything, a GPU's fp32 alone."""
    return x if x.is_cpu else x.float()


def _norm_of_each_row(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, layout: Layout) -> Tensor:
    """A head's norm, whose scale (rows, size) is each row's own."""
    own = functional.layer_norm(x, x.shape[-1:], eps=eps).reshape(-1, x.shape[-1])
    owners = layout.owners(len(own))
    own = own * weight.index_select(0, owners)
    return (own if bias is None else own + bias.index_select(0, owners)).view(x.shape)
