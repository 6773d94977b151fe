"""Attention over a batch without padding, by groups of sequences of like length.

Registered as an attention implementation of transformers, so that any model which uses that interface gains.
The scores of a group are one block, worked on in place. Its weights stay unnormalized: the answer is divided by
their sum instead. A dropped weight is marked by its sign, so that the backward pass needs no second block. Where
nothing is dropped and a GPU has a kernel of its own for it, that is used instead. Knows nothing of rows' values.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bitfit.backbone import varlen
from bitfit.backbone.rows import Flow, Group
from bitfit.errors import BackboneError

NAME = "bitfit_packed"
UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias", "head_mask")  # what some models ask for and this has not
SAFE_EXPONENT = 60.0  # exp of this, summed over a line, is far from overflow; exp of its negative from zero
LOWEST = -1e30  # added to the score of a place that must not be seen; finite in bf16 and fp32


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
    flow: Flow = module.bitfit_flow  # type: ignore[assignment]
    causal = options.get("is_causal")
    shape = Shape(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=bool(getattr(module, "is_causal", False) if causal is None else causal),
        window=options.get("sliding_window"),
        rate=dropout if flow.draws is not None else 0.0,
    )
    # (1, heads, tokens, size) -> (tokens, heads, size); most models made it from that, so no copy is made.
    # Rotary positions may have turned queries and keys in another format than the values are in.
    q, k, v = (part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value))
    if shape.rate == 0.0 and varlen.fits(q, v):
        return varlen.attend((q, k, v), flow.layout, shape.scale, (shape.window, shape.causal))[None], None
    return _PackedAttention.apply(q, k, v, flow, shape)[None], None  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Shape:
    """How one attention layer looks at its tokens."""

    scale: float
    causal: bool
    window: int | None  # a token sees others that are fewer than this many places away
    rate: float  # dropout

    def hidden(self, group: Group) -> Tensor | None:
        """What is added to a group's scores to hide places; broadcasts over (sequences, heads, from, to)."""
        seen = None if group.full is None else group.full[:, None, None, :]
        places = torch.arange(group.width, device=group.places.device)
        ahead = places[:, None] - places[None, :]
        if self.causal:
            seen = (ahead >= 0) if seen is None else seen & (ahead >= 0)
        if self.window is not None and self.window < group.width:
            near = (ahead if self.causal else ahead.abs()) < self.window
            seen = near if seen is None else seen & near
        if seen is None:
            return None
        return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, LOWEST)


class _PackedAttention(torch.autograd.Function):
    """Softmax attention of each sequence over itself. q: (tokens, heads, size); k, v may have fewer heads."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, flow: Flow, shape: Shape) -> Tensor:
        out = _blank(q.new_empty(q.shape[0], q.shape[1], v.shape[2]), flow.layout.starts[-1])
        training = any(ctx.needs_input_grad)
        kept = []
        for group in flow.layout.groups:
            bq, bk, bv = (_take(part, group, q.shape[1]) for part in (q, k, v))
            if shape.rate == 0.0 and not training:
                _put(out, _answer(bq, bk, bv, shape, group), group)
                continue
            weights = _weights(bq, bk, shape, group)
            gain = _gain(shape) / weights.sum(-1, keepdim=True)
            _mark_dropped(weights, flow, shape.rate, group)
            _put(out, (_seen(weights, shape.rate) @ bv).mul_(gain), group)
            kept += [weights, gain]
        if training:
            ctx.save_for_backward(q, k, v, out, *kept)
            ctx.groups, ctx.shape, ctx.tokens = flow.layout.groups, shape, flow.layout.starts[-1]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *kept = ctx.saved_tensors
        shape: Shape = ctx.shape
        (g,) = grads
        # The sum over places of weight times its gradient, without forming it: the gradient times the answer.
        inner = (g.float() * out.float()).sum(-1, keepdim=True).mul_(1.0 / _gain(shape)).to(q.dtype)
        dq, dk, dv = (_blank(part.new_empty(part.shape), ctx.tokens) for part in (q, k, v))
        for group, weights, gain in zip(ctx.groups, kept[::2], kept[1::2], strict=True):
            bq, bk, bv, bg, bi = (_take(part, group, q.shape[1]) for part in (q, k, v, g, inner))
            bg, bi = _muted(bg * gain, group), _muted(bi * gain, group)
            _put_shared(dv, _seen(weights, shape.rate).transpose(-1, -2) @ bg, group)
            scores = bg @ bv.transpose(-1, -2)
            if shape.rate:
                scores = torch.ops.aten.threshold_backward(scores, weights, 0)  # zero where a weight was dropped
                weights = weights.abs()
            scores.sub_(bi).mul_(weights)
            _put(dq, (scores @ bk).mul_(shape.scale), group)
            _put_shared(dk, scores.transpose(-1, -2) @ (bq * shape.scale), group)
        return dq, dk, dv, None, None


def _blank(out: Tensor, tokens: int) -> Tensor:
    """Zero behind the last sequence: filler, which no group writes."""
    out[tokens:] = 0
    return out


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
    elif group.real is None:
        out.index_copy_(0, group.places, rows)
    else:
        out.index_copy_(0, group.places[group.real], rows.index_select(0, group.real))


def _put_shared(out: Tensor, block: Tensor, group: Group) -> None:
    """The same for keys and values; where several query heads share one, their gradients are added."""
    shared = block.shape[1] // out.shape[1]
    _put(out, block.unflatten(1, (out.shape[1], shared)).sum(2) if shared > 1 else block, group)


def _muted(block: Tensor, group: Group) -> Tensor:
    """The gradient with zero at empty places: nothing was written there."""
    return block if group.full is None else block.mul_(group.full[:, None, :, None].to(block.dtype))


def _weights(q: Tensor, k: Tensor, shape: Shape, group: Group) -> Tensor:
    """exp(q k), with the largest of each line taken off only where it could overflow or vanish."""
    scores = (q * shape.scale) @ k.transpose(-1, -2)
    hidden = shape.hidden(group)
    if hidden is not None:
        scores.add_(hidden.to(scores.dtype))
    highest = scores.amax(-1, keepdim=True)
    if not scores.is_cpu or float(highest.abs().amax()) > SAFE_EXPONENT:  # a GPU's host does not wait to look
        scores.sub_(highest)
    return scores.exp_()


def _answer(q: Tensor, k: Tensor, v: Tensor, shape: Shape, group: Group) -> Tensor:
    """Attention without gradient and dropout: torch's own, which forms no block of scores."""
    hidden = shape.hidden(group)
    mask = None if hidden is None else hidden.to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=shape.scale)


def _mark_dropped(weights: Tensor, flow: Flow, rate: float, group: Group) -> None:
    """Make the weights that dropout drops negative."""
    if rate == 0.0:
        return
    each = math.prod(weights.shape[1:])
    signs = flow.signs([count * each for count in group.counts], rate).view(weights.shape)
    weights.copysign_(signs.view(weights.dtype) if weights.element_size() == 2 else signs.to(weights.dtype))


def _seen(weights: Tensor, rate: float) -> Tensor:
    """The weights with the dropped ones at zero. As an integer, a number with its sign set is below zero."""
    if rate == 0.0:
        return weights
    bits = weights.view(torch.int16 if weights.element_size() == 2 else torch.int32)
    return bits.clamp_min(0).view(weights.dtype)
