"""Replaces a model's layers by ones that keep no inputs and take a bias for each row.

`replace_layers` swaps the linear, norm and dropout layers of a transformers model for these, under the same names.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers.pytorch_utils import Conv1D

from bitfit.runtime.linear import FastLinear
from bitfit.runtime.passes import Pass, current
from bitfit.runtime.segments import Segments, bias_sums
from bitfit.runtime.sites import LEAVES, affine, inserted

# RMS norms of transformers that compute what torch's does: (x / rms) * weight.
RMS_NORMS = ("LlamaRMSNorm", "Qwen2RMSNorm")


def replace_layers(model: nn.Module, compute: torch.dtype) -> None:
    """Swap every layer of the kinds below in place; weights of linear layers are kept in `compute`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            fast = _fast(child, compute)
            if fast is not None:
                fast.train(child.training)
                setattr(parent, name, fast)


def reads_from_pass(module: nn.Module, leaf: str) -> bool:
    """Does a module take the value of this parameter from the current pass?"""
    return isinstance(module, FastLinear | FastNorm) or leaf in LEAVES


def _fast(layer: nn.Module, compute: torch.dtype) -> nn.Module | None:
    """The fast layer for this one, or None. Sub-classes may do something else, so the type must be exact."""
    if type(layer) in (nn.Linear, Conv1D):
        return FastLinear(layer, compute)
    if type(layer) is nn.LayerNorm and layer.elementwise_affine and len(layer.normalized_shape) == 1:
        return FastNorm(layer, layer.eps, compute)
    if type(layer).__name__ in RMS_NORMS:
        return FastRMSNorm(layer, float(layer.variance_epsilon), compute)  # type: ignore[arg-type]
    if type(layer) is nn.Dropout:
        return FastDropout(layer.p)
    return None


class FastNorm(nn.Module):
    """Layer normalization with fp32 statistics; a scale and a bias for all rows or for each."""

    def __init__(self, norm: nn.Module, eps: float, compute: torch.dtype) -> None:
        super().__init__()
        self.compute, self.eps = compute, eps
        self.weight: nn.Parameter = norm.weight  # type: ignore[assignment]
        self.bias: nn.Parameter | None = norm._parameters.get("bias")
        self.gain, self.shift = inserted(norm, "gain"), inserted(norm, "shift")

    def forward(self, x: Tensor) -> Tensor:
        now = current()
        scale, bias = self._scale_and_bias(now)
        if scale.dim() == 1 and not scale.requires_grad:
            return self._frozen(x, scale, bias, now.segments)
        if scale.dim() == 1 and (bias is None or bias.dim() == 1):
            return self._normalized(x.float(), scale, bias).to(self.compute)
        return affine(self._normalized(x.float()), scale - 1.0, bias, now.segments).to(self.compute)

    def _scale_and_bias(self, now: Pass) -> tuple[Tensor, Tensor | None]:
        """With what was put in: (y * scale + bias) * (1 + gain) + shift is again a scale and a bias."""
        scale, bias = now.value(self.weight), now.value(self.bias)
        gain, shift = now.value(self.gain), now.value(self.shift)
        assert scale is not None
        if gain is not None:
            scale, bias = scale * (1.0 + gain), None if bias is None else bias * (1.0 + gain)
        return scale, bias if shift is None else shift if bias is None else bias + shift

    def _frozen(self, x: Tensor, scale: Tensor, bias: Tensor | None, segments: Segments | None) -> Tensor:
        result: Tensor = _FrozenNorm.apply(x, scale, bias, self.eps, segments, self.compute)  # type: ignore[no-untyped-call]
        return result

    def _normalized(self, x: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], scale, bias, self.eps)


class FastRMSNorm(FastNorm):
    """The same without a mean: each token is divided by the root of its mean square."""

    def _frozen(self, x: Tensor, scale: Tensor, bias: Tensor | None, segments: Segments | None) -> Tensor:
        return affine(self._normalized(x.float(), scale), None, bias, segments).to(self.compute)

    def _normalized(self, x: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return affine(functional.rms_norm(x, x.shape[-1:], scale, self.eps), None, bias, None)


class FastDropout(nn.Module):
    """Dropout with the draws of each row's own generator."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.p = rate  # transformers' attention layers read `p`

    def forward(self, x: Tensor) -> Tensor:
        now = current()
        if self.p == 0.0 or now.draws is None or not self.training:
            return x
        each = x.shape[-1]
        counts = (x.numel() // each,) if now.segments is None else now.segments.counts
        # All bits set where an element is kept, none where it is dropped; (entries of all rows, size).
        signs = now.draws.signs([count * each for count in counts], 1.0 - self.p)
        keep = signs.bitwise_right_shift_(15).view(-1, each)
        keep = keep if x.element_size() == 2 else keep.to(torch.int32)
        result: Tensor = _Dropout.apply(x, keep, 1.0 / (1.0 - self.p))  # type: ignore[no-untyped-call]
        return result


class FunctionalDropout(TorchFunctionMode):
    """While it is entered, calls of torch's own dropout draw as FastDropout does."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not functional.dropout:
            return func(*args, **(kwargs or {}))
        return self._dropout(*args, **(kwargs or {}))

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        del inplace  # the result is what counts
        result: Tensor = FastDropout(p).train(training)(x)
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
        segments: Segments | None,
        compute: torch.dtype,
    ) -> Tensor:
        ctx.many = bias is not None and bias.dim() == 2
        one = None if ctx.many else bias
        y, mean, spread = torch.native_layer_norm(_of_one_format(x), (x.shape[-1],), scale, one, eps)
        ctx.save_for_backward(x, mean, spread, scale)
        ctx.segments = segments
        y = y.to(compute)
        if ctx.many and bias is not None and segments is not None:
            flat = y.view(-1, y.shape[-1])
            flat += segments.spread(bias.to(compute), len(flat))
        return y

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
        to_bias = bias_sums(g, ctx.segments, ctx.many) if ctx.needs_input_grad[2] else None
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
