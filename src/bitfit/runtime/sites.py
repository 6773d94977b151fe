"""A gain and a bias at a site of a model: h * (1 + gain) + shift.

A site is what a module gives: a linear layer, a norm or a whole block; `input_gain` is a gain on what a linear layer is
given. `insert` makes any module of torch or transformers compute it; the fast layers take the parameters over.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bitfit.runtime.passes import maybe_current
from bitfit.runtime.segments import Segments, bias_sums

Leaf = Literal["gain", "shift", "input_gain"]
LEAVES: tuple[Leaf, ...] = ("gain", "shift", "input_gain")
Undo = Callable[[], None]


def insert(module: nn.Module, leaves: Sequence[Leaf], width: int | None = None) -> Undo:
    """Give a module parameters of these names, zero at first, and make it compute with them; returns the way back.

    `width` is the size of what a block gives, which its parameters do not tell; layers and norms need none.
    """
    present = [leaf for leaf in leaves if leaf in module._parameters]
    if present:
        raise ValueError(f"{type(module).__name__} has a {present[0]} already; take it out before another is put in.")
    device = next(module.parameters()).device
    for leaf in leaves:
        size = width if width is not None else _width(module, leaf)
        module.register_parameter(leaf, nn.Parameter(torch.zeros(size, device=device), requires_grad=False))
    hooks = []
    if {"gain", "shift"} & set(leaves):
        hooks.append(module.register_forward_hook(_change_output))
    if "input_gain" in leaves:
        hooks.append(module.register_forward_pre_hook(_change_input))

    def undo() -> None:
        for hook in hooks:
            hook.remove()
        for leaf in leaves:
            del module._parameters[leaf]

    return undo


def inserted(module: nn.Module, leaf: Leaf) -> nn.Parameter | None:
    """The module's parameter of that name, if one was put in."""
    return module._parameters.get(leaf)


def affine(h: Tensor, gain: Tensor | None, shift: Tensor | None, segments: Segments | None) -> Tensor:
    """h * (1 + gain) + shift; gain and shift are (size,) or (rows, size)."""
    if gain is None and shift is None:
        return h
    result: Tensor = _Affine.apply(h, gain, shift, segments)  # type: ignore[no-untyped-call]
    return result


class _Affine(torch.autograd.Function):
    """Keeps its input only where a gain learns from it; gradients of gain and shift add up in fp32."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, gain: Tensor | None, shift: Tensor | None, segments: Segments | None) -> Tensor:
        learns = gain is not None and ctx.needs_input_grad[1]
        ctx.save_for_backward(h if learns else None, gain)
        ctx.segments, ctx.many_shifts = segments, shift is not None and shift.dim() == 2
        flat = h.reshape(-1, h.shape[-1])
        # h + h * gain and not h * (1 + gain), which would round the gain to the steps that 16 bits have near 1.
        y = flat if gain is None else torch.addcmul(flat, flat, _by_entry(gain, flat, segments))
        y = y if shift is None else y + _by_entry(shift, flat, segments)
        # A plain view could not be changed in place, which some models do with what a layer gives.
        return torch.ops.aten._unsafe_view(y, h.shape)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, gain = ctx.saved_tensors
        (g,) = grads
        to_h, to_gain = g, None
        if gain is not None and ctx.needs_input_grad[0]:
            flat = g.reshape(-1, g.shape[-1])
            to_h = torch.addcmul(flat, flat, _by_entry(gain, flat, ctx.segments)).view(g.shape)
        if ctx.needs_input_grad[1]:
            to_gain = bias_sums(g.float() * h, ctx.segments, gain.dim() == 2)
        to_shift = bias_sums(g, ctx.segments, ctx.many_shifts) if ctx.needs_input_grad[2] else None
        return to_h, to_gain, to_shift, None


def _by_entry(values: Tensor, flat: Tensor, segments: Segments | None) -> Tensor:
    """What each entry is given, in its own number format: one vector for all, or its row's."""
    values = values.to(flat.dtype)
    if values.dim() == 1:
        return values
    assert segments is not None
    return segments.spread(values, len(flat))


def _width(module: nn.Module, leaf: Leaf) -> int:
    """The size of what a layer takes or gives."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    shape = weight.shape[::-1] if isinstance(module, Conv1D) else weight.shape  # (out, in)
    return shape[1] if leaf == "input_gain" else shape[0]


def _change_output(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
    """A forward hook. Of a tuple the first element is what the module gives on."""
    del given
    first = output[0] if isinstance(output, tuple) else output
    changed = _changed(first, inserted(module, "gain"), inserted(module, "shift"))
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _change_input(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook."""
    return (_changed(given[0], inserted(module, "input_gain"), None), *given[1:])


def _changed(h: Tensor, gain: Tensor | None, shift: Tensor | None) -> Tensor:
    """With a pass's values where one runs."""
    now = maybe_current()
    if now is None:
        return affine(h, gain, shift, None)
    return affine(h, now.value(gain), now.value(shift), now.segments)
