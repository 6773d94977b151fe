"""Attention over a batch without padding, by groups of sequences of like length.

Registered as an attention implementation of transformers, so that any model which uses that interface gains.
The scores of a group are one block; their softmax and dropout are done in place, and dropped weights are marked
by their sign bit, so that the backward pass needs one block of the same size. Knows nothing of rows' values.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bitfit.backbone.rows import Flow, Group

NAME = "bitfit_packed"
LOWEST = -1e30  # added to the score of a place that must not be seen; finite in bf16 and fp32


def register() -> None:
    """Make the implementation known to transformers under NAME."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)


def packed_attention(
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
    flow: Flow = module.bitfit_flow  # type: ignore[assignment]
    causal = options.get("is_causal")
    shape = Shape(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=bool(getattr(module, "is_causal", False) if causal is None else causal),
        window=options.get("sliding_window"),
        rate=dropout if flow.draws is not None else 0.0,
    )
    # (1, heads, tokens, size) -> (tokens, heads, size); most models made it from that, so no copy is made.
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    return _PackedAttention.apply(q, k, v, flow, shape)[None], None  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Shape:
    """How one attention layer looks at its tokens."""

    scale: float
    causal: bool
    window: int | None  # a token sees this many on each side, or so many back where causal
    rate: float  # dropout

    def hidden(self, group: Group) -> Tensor | None:
        """What is added to a group's scores to hide places; broadcasts over (sequences, heads, from, to)."""
        seen = None if group.full is None else group.full[:, None, None, :]
        ahead = torch.arange(group.width)[:, None] - torch.arange(group.width)[None, :]
        if self.causal:
            seen = (ahead >= 0) if seen is None else seen & (ahead >= 0)
        if self.window is not None and self.window < group.width:
            near = (ahead.abs() <= self.window) if not self.causal else (ahead < self.window)
            seen = near if seen is None else seen & near
        if seen is None:
            return None
        return torch.zeros(seen.shape).masked_fill_(~seen, LOWEST)


class _PackedAttention(torch.autograd.Function):
    """Softmax attention of each sequence over itself. q: (tokens, heads, size); k, v may have fewer heads."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, flow: Flow, shape: Shape) -> Tensor:
        out = q.new_empty(q.shape[0], q.shape[1], v.shape[2])
        training = any(ctx.needs_input_grad)
        kept = []
        for group in flow.layout.groups:
            blocks = [_take(part, group, q.shape[1]) for part in (q, k, v)]
            if shape.rate == 0.0 and not training:
                answer = _answer(blocks[0], blocks[1], blocks[2], shape, group)
            else:
                weights = _weights(blocks[0], blocks[1], shape, group)
                _mark_dropped(weights, flow, shape.rate, group)
                answer = _seen(weights, shape.rate) @ blocks[2] * _gain(shape)
                kept.append(weights)
            _put(out, answer, group)
        if training:
            ctx.save_for_backward(q, k, v, out, *kept)
            ctx.groups, ctx.shape = flow.layout.groups, shape
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *kept = ctx.saved_tensors
        shape: Shape = ctx.shape
        heads = q.shape[1]
        (g,) = grads
        # sum over places of dP * P, without ever forming it: it equals the gradient times the answer.
        inner = (g.float() * out.float()).sum(-1, keepdim=True).to(q.dtype)
        dq, dk, dv = q.new_empty(q.shape), k.new_zeros(q.shape[:1] + k.shape[1:]), v.new_zeros(v.shape)
        for group, weights in zip(ctx.groups, kept, strict=True):
            bq, bk, bv, bg, bi = (_take(part, group, heads) for part in (q, k, v, g, inner))
            _mute(bg, group)
            _mute(bi, group)
            _put_shared(dv, _seen(weights, shape.rate).transpose(-1, -2) @ (bg * _gain(shape)), group)
            scores = (bg * _gain(shape)) @ bv.transpose(-1, -2)
            if shape.rate:
                _bits(scores).bitwise_and_(_kept_mask(weights))
                weights.abs_()
            scores.sub_(bi).mul_(weights)
            _put(dq, scores @ bk * shape.scale, group)
            _put_shared(dk, scores.transpose(-1, -2) @ (bq * shape.scale), group)
        return dq, dk, dv, None, None


def _gain(shape: Shape) -> float:
    """What makes up for the dropped weights."""
    return 1.0 / (1.0 - shape.rate)


def _take(part: Tensor, group: Group, heads: int) -> Tensor:
    """A group's block, (sequences, heads, width, size); fewer key heads are repeated for their query heads."""
    if group.start is not None:
        rows = part[group.start : group.start + len(group.sequences) * group.width]
    else:
        rows = part.index_select(0, group.places)
    block = rows.reshape(len(group.sequences), group.width, part.shape[1], part.shape[2]).transpose(1, 2)
    if part.shape[1] != heads:
        return block.repeat_interleave(heads // part.shape[1], dim=1)
    return block.contiguous()


def _put(out: Tensor, block: Tensor, group: Group) -> None:
    """Write a group's block back to its tokens."""
    rows = block.transpose(1, 2).reshape(len(group.sequences) * group.width, out.shape[1], out.shape[2])
    if group.start is not None:
        out[group.start : group.start + rows.shape[0]] = rows
    elif group.full is None:
        out[group.places] = rows
    else:
        real = group.full.reshape(-1)
        out[group.places[real]] = rows[real]


def _put_shared(out: Tensor, block: Tensor, group: Group) -> None:
    """The same for keys and values; where several query heads share one, their gradients are added."""
    shared = block.shape[1] // out.shape[1]
    _put(out, block.unflatten(1, (out.shape[1], shared)).sum(2) if shared > 1 else block, group)


def _mute(block: Tensor, group: Group) -> None:
    """Set the gradient at empty places to zero: nothing was written there."""
    if group.full is not None:
        block.mul_(group.full[:, None, :, None].to(block.dtype))


def _weights(q: Tensor, k: Tensor, shape: Shape, group: Group) -> Tensor:
    """softmax(q k) in place over its own scores; torch's softmax is several times slower on large blocks."""
    scores = (q * shape.scale) @ k.transpose(-1, -2)
    hidden = shape.hidden(group)
    if hidden is not None:
        scores.add_(hidden.to(scores.dtype))
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


def _answer(q: Tensor, k: Tensor, v: Tensor, shape: Shape, group: Group) -> Tensor:
    """Attention without gradient and dropout: torch's own, which forms no block of scores."""
    hidden = shape.hidden(group)
    mask = None if hidden is None else hidden.to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=shape.scale)


def _bits(values: Tensor) -> Tensor:
    """The same memory as integers of the same width."""
    return values.view(torch.int16 if values.element_size() == 2 else torch.int32)


def _mark_dropped(weights: Tensor, flow: Flow, rate: float, group: Group) -> None:
    """Set the sign bit of the weights that dropout drops; weights are never negative otherwise."""
    if rate == 0.0:
        return
    each = math.prod(weights.shape[1:])
    keep = flow.keep([count * each for count in group.counts], rate, weights.dtype).view(weights.shape)
    sign = torch.iinfo(keep.dtype).min
    _bits(weights).bitwise_or_(keep.bitwise_not_().bitwise_and_(sign))


def _kept_mask(weights: Tensor) -> Tensor:
    """All bits set where a weight was kept, none where it was dropped."""
    width = 8 * weights.element_size() - 1
    return _bits(weights).bitwise_right_shift(width).bitwise_not_()


def _seen(weights: Tensor, rate: float) -> Tensor:
    """The weights with the dropped ones at zero."""
    if rate == 0.0:
        return weights
    return _bits(weights).bitwise_and(_kept_mask(weights)).view(weights.dtype)
