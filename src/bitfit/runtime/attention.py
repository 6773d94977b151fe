"""Attention over a batch without padding, in groups of sequences of similar length.

Registered as an attention implementation of transformers, so that any model which uses that interface gains.
The scores of a group are one block, worked on in place. Its weights stay unnormalized: the answer is divided by
their sum instead. A dropped weight is marked by its sign, so that the backward pass needs no second block. Where
nothing is dropped and a GPU has a kernel of its own for it, that is used instead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bitfit.backbone.device import to_device
from bitfit.errors import BackboneError
from bitfit.runtime.dropout import Draws
from bitfit.runtime.joint_qkv import side_by_side
from bitfit.runtime.layout import Blocks, Group, Layout
from bitfit.runtime.passes import Pass, current

NAME = "bitfit_packed"
UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias", "head_mask")  # what some models ask for and this has not
SAFE_SUM = math.exp(60.0)  # of a line's weights: far from overflow, and its inverse from zero
WIDEST_HEAD = 128  # numbers of a head that torch's kernel for many lengths takes on every GPU, on the way back too
OLDEST_GPU = (8, 0)  # the generation that has this kernel
KERNEL_TAKES = {"scale", "window_size", "enable_gqa"}  # its first versions had not all of them
LOWEST = -1e30  # added to the score of a position that must not be seen; finite in bf16 and fp32


def register() -> None:
    """Make the implementation known to transformers under NAME."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, _packed_attention)


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """The interface's function: (1, heads, tokens, size) each; returns (1, tokens, heads, size)."""
    unknown = [name for name in UNKNOWN if options.get(name) is not None]
    if attention_mask is not None or unknown:
        what = ", ".join(unknown) or "a mask of its own"
        raise BackboneError(
            f"{type(module).__name__} asks attention for {what}, which batches without padding do not have. "
            "Expected none: its entry in architectures.toml must say packed = false."
        )
    now = current()
    causal = options.get("is_causal")
    shape = Shape(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=bool(getattr(module, "is_causal", False) if causal is None else causal),
        window=options.get("sliding_window"),
        rate=dropout if now.draws is not None else 0.0,
    )
    # (1, heads, tokens, size) -> (tokens, heads, size); most models made it from that, so no copy is made.
    # Rotary positions may have turned queries and keys in another format than the values are in.
    q, k, v = (part.squeeze(0).transpose(0, 1).to(value.dtype) for part in (query, key, value))
    if shape.rate == 0.0 and takes_kernel(q, v):
        return _by_kernel(q, k, v, now.layout, shape)[None], None
    return _attend(q, k, v, now, shape)[None], None


def _attend(q: Tensor, k: Tensor, v: Tensor, now: Pass, shape: "Shape") -> Tensor:
    """q, k, v (tokens, heads, size), brought to one shape: k and v may have fewer heads, v another size."""
    heads, size, width = q.shape[1], max(q.shape[2], v.shape[2]), v.shape[2]
    parts = [part if part.shape[2] == size else functional.pad(part, (0, size - part.shape[2])) for part in (q, k, v)]
    parts = [p if p.shape[1] == heads else p.repeat_interleave(heads // p.shape[1], 1) for p in parts]
    out: Tensor = _PackedAttention.apply(*parts, now.layout.blocks, now.draws, shape)  # type: ignore[no-untyped-call]
    return out if width == size else out[..., :width]


@dataclass(frozen=True)
class Shape:
    """How one attention layer looks at its tokens."""

    scale: float
    causal: bool
    window: int | None  # a token sees others that are fewer than this many positions away
    rate: float  # dropout

    def hidden(self, group: Group, like: Tensor) -> Tensor | None:
        """What is added to a group's scores to hide positions; broadcasts over (sequences, heads, from, to).

        A layer of the same shape finds what the one before it made.
        """
        key = (self.causal, self.window, like.dtype)
        if key not in group.hidden:
            group.hidden[key] = self._make_hidden(group, like)
        return group.hidden[key]

    def _make_hidden(self, group: Group, like: Tensor) -> Tensor | None:
        ahead = np.arange(group.width)[:, None] - np.arange(group.width)[None, :]
        seen = group.full[:, None, None, :]
        if self.causal:
            seen = seen & (ahead >= 0)
        if self.window is not None:
            seen = seen & ((ahead if self.causal else abs(ahead)) < self.window)
            seen = seen | ~group.full[:, None, :, None]  # so that the weights of an empty position have a sum
        if seen.all():
            return None
        return to_device(torch.from_numpy(np.where(seen, 0.0, LOWEST)).to(like.dtype), like.device)


class _PackedAttention(torch.autograd.Function):
    """Softmax attention of each sequence over itself; q, k and v: (tokens, heads, size)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, blocks: Blocks, draws: Draws | None, shape: Shape) -> Tensor:
        heads = q.shape[1]
        lines = blocks.take(side_by_side((q, k, v), 1))
        answers = blocks.blank(lines, 1, heads)
        each = zip(blocks.groups, blocks.of_each(lines, 3, heads), blocks.of_each(answers, 1, heads), strict=True)
        if shape.rate == 0.0 and not any(ctx.needs_input_grad):
            for group, (bq, bk, bv), (answer,) in each:
                answer.copy_(_answer(bq, bk, bv, shape, group))
            return blocks.put(answers, 1, heads)[:, 0]
        gains = lines.new_empty(len(answers) - 1, 1)
        kept = []
        for (group, (bq, bk, bv), (answer,)), (gain,) in zip(each, blocks.of_each(gains, 1, heads), strict=True):
            weights = _weights(bq, bk, shape, group, gain)
            _mark_dropped(weights, draws, shape.rate, group)
            torch.bmm(_seen(weights, shape.rate), bv, out=answer)
            kept.append(weights)
        gains.reciprocal_().mul_(1.0 / (1.0 - shape.rate))  # of the sums: what makes up for the dropped weights too
        full = blocks.full(heads)
        if full is not None:
            gains.mul_(full)  # nothing is learned from an empty position
        answers[:-1].mul_(gains)
        ctx.save_for_backward(lines, answers, gains, *kept)
        ctx.blocks, ctx.shape, ctx.heads = blocks, shape, heads
        return blocks.put(answers, 1, heads)[:, 0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        lines, answers, gains, *kept = ctx.saved_tensors
        blocks, shape, heads = ctx.blocks, ctx.shape, ctx.heads
        g = blocks.take(grads[0][:, None])
        # The sum over positions of weight times its gradient, without forming it: the gradient times the answer.
        inner = (g * answers[:-1]).sum(-1, keepdim=True).mul_(gains).mul_(1.0 - shape.rate)
        g.mul_(gains)
        learned = blocks.blank(lines, 3, heads)
        wide = (blocks.of_each(lines, 3, heads), blocks.of_each(learned, 3, heads))
        slim = (blocks.of_each(g, 1, heads), blocks.of_each(inner, 1, heads))
        for weights, (bq, bk, bv), (dq, dk, dv), (bg,), (bi,) in zip(kept, *wide, *slim, strict=True):
            torch.bmm(_seen(weights, shape.rate).transpose(1, 2), bg, out=dv)
            scores = bg @ bv.transpose(1, 2)
            if shape.rate:
                scores = torch.ops.aten.threshold_backward(scores, weights, 0)  # zero where a weight was dropped
                weights = weights.abs()
            scores.sub_(bi).mul_(weights)
            _product(scores, bk, shape.scale, out=dq)
            _product(scores.transpose(1, 2), bq, shape.scale, out=dk)
        return *blocks.put(learned, 3, heads).unbind(1), None, None, None


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor) -> Tensor:
    """The products of two stacks of matrices, times a number."""
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


def _weights(q: Tensor, k: Tensor, shape: Shape, group: Group, sums: Tensor) -> Tensor:
    """exp(q k), with its sums over each line; the largest of a line is taken off only where it must be."""
    if q.is_cpu:  # a GPU's host does not wait to look
        weights = _scores(q, k, shape, group).exp_()
        lowest, highest = torch.sum(weights, -1, keepdim=True, out=sums).aminmax()
        if float(lowest) > 1 / SAFE_SUM and float(highest) < SAFE_SUM:
            return weights
    scores = _scores(q, k, shape, group)
    weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    torch.sum(weights, -1, keepdim=True, out=sums)
    return weights


def _scores(q: Tensor, k: Tensor, shape: Shape, group: Group) -> Tensor:
    """q k, scaled, with what must not be seen far below all else; (sequences * heads, from, to)."""
    scores = q.new_empty(len(q), group.width, group.width)
    hidden = shape.hidden(group, q)
    if hidden is None:
        return _product(q, k.transpose(1, 2), shape.scale, out=scores)
    scores.view(len(group.sequences), -1, group.width, group.width).copy_(hidden)
    return scores.baddbmm_(q, k.transpose(1, 2), alpha=shape.scale)


def _answer(q: Tensor, k: Tensor, v: Tensor, shape: Shape, group: Group) -> Tensor:
    """Attention without gradient and dropout: torch's own, which forms no block of scores."""
    q, k, v = (part.unflatten(0, (len(group.sequences), -1)) for part in (q, k, v))
    hidden = shape.hidden(group, q)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=hidden, scale=shape.scale).flatten(0, 1)


def _mark_dropped(weights: Tensor, draws: Draws | None, rate: float, group: Group) -> None:
    """Make the weights that dropout drops negative."""
    if rate == 0.0 or draws is None:
        return
    each = weights.numel() // len(group.sequences)
    signs = draws.signs([count * each for count in group.counts], rate).view(weights.shape)
    weights.copysign_(signs.view(weights.dtype) if weights.element_size() == 2 else signs.to(weights.dtype))


def _seen(weights: Tensor, rate: float) -> Tensor:
    """The weights with the dropped ones at zero. As an integer, a number with its sign set is below zero."""
    if rate == 0.0:
        return weights
    bits = weights.view(torch.int16 if weights.element_size() == 2 else torch.int32)
    return bits.clamp_min(0).view(weights.dtype)


def takes_kernel(q: Tensor, v: Tensor) -> bool:
    """Does torch's kernel for sequences of many lengths take these? It needs a GPU and 16-bit numbers."""
    alike = v.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] == v.shape[-1]
    return not q.is_cpu and alike and q.shape[-1] % 8 == 0 and q.shape[-1] <= WIDEST_HEAD and has_kernel(q.device)


@cache
def has_kernel(device: torch.device) -> bool:
    """Has this torch the kernel, and can this device run it?"""
    try:
        known = set(signature(kernel()).parameters)
    except ImportError:
        return False
    return known >= KERNEL_TAKES and torch.cuda.get_device_capability(device) >= OLDEST_GPU


def kernel() -> Callable[..., Tensor]:
    """torch's, for version 2.10 and later."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn  # type: ignore[return-value]


def _by_kernel(q: Tensor, k: Tensor, v: Tensor, layout: Layout, shape: Shape) -> Tensor:
    """Each sequence over itself: q, k, v (tokens, heads, size), of which k and v may have fewer heads."""
    # Filler belongs to no sequence: the kernel would leave whatever was in memory there.
    q, k, v = (part[: layout.starts[-1]] for part in (q, k, v))
    side = -1 if shape.window is None else shape.window - 1
    longest = max(layout.lengths)
    out = kernel()(
        q,
        k,
        v,
        layout.cuts,
        layout.cuts,
        longest,
        longest,
        scale=shape.scale,
        window_size=(side, 0 if shape.causal else side),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return functional.pad(out, (0, 0, 0, 0, 0, layout.filler))
