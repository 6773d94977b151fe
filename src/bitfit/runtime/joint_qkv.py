"""Linear layers that read the same, computed as one product: a layer's queries, keys and values.

Each stays where it stands in the model. The first that is called computes for all, and the others find their part.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from bitfit.backbone.anatomy import sites
from bitfit.runtime.linear import FastLinear, sum_rows, untrained, with_bias

ROLES = ("query", "key", "value")


def join_qkv(encoder: nn.Module) -> None:
    """Let the fast layers for queries, keys and values of one place compute together, where they are alike."""
    found: dict[str, dict[str, FastLinear]] = {}
    for site in sites(encoder):
        layer = encoder.get_submodule(site.name)
        if site.role in ROLES and isinstance(layer, FastLinear) and not layer.turned:
            found.setdefault(site.name.rpartition(".")[0], {})[site.role] = layer
    for named in found.values():
        layers = [named[role] for role in ROLES if role in named]
        if len(layers) == len(ROLES) and len({(layer.weight.shape, layer.bias is None) for layer in layers}) == 1:
            JointLinear(layers)


class JointLinear:
    """Some layers of one input and one size. Their weights become parts of one matrix."""

    def __init__(self, layers: Sequence[FastLinear]) -> None:
        self.layers, self.flow, self.compute = tuple(layers), layers[0].flow, layers[0].compute
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        for number, (layer, part) in enumerate(zip(layers, self.weight.chunk(len(layers)), strict=True)):
            layer.weight = untrained(part)
            layer.joint = partial(self.maybe_answer, number)
        self.own = [layer.weight for layer in layers]
        self.input: Tensor | None = None
        self.answers: list[Tensor | None] = []  # to this input, those that were not asked for yet

    def maybe_answer(self, number: int, x: Tensor) -> Tensor | None:
        """What one of the layers answers; None where a weight trains or has trained, so that each must work alone."""
        if any(layer.weight is not own for layer, own in zip(self.layers, self.own, strict=True)):
            return None
        if self.input is not x or self.answers[number] is None:
            self.input, self.answers = x, list(self._all(x.to(self.compute)))
        answer, self.answers[number] = self.answers[number], None
        if not any(other is not None for other in self.answers):
            self.input = None
        return answer

    def _all(self, x: Tensor) -> tuple[Tensor, ...]:
        bounds = self.flow.layout.bounds_in(x)
        biases = [layer.bias for layer in self.layers]
        found: tuple[Tensor, ...] = _JointLinear.apply(x, self.weight, bounds, *biases)  # type: ignore[no-untyped-call]
        return found


class _JointLinear(torch.autograd.Function):
    """Frozen linear layers of one size; their answers are parts of one tensor."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bounds: tuple[int, ...], *biases: Tensor | None
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weight)
        given = [bias for bias in biases if bias is not None]
        ctx.bounds, ctx.many = bounds, any(bias.dim() == 2 for bias in given)
        if ctx.many:
            given = [bias.expand(len(bounds) - 1, -1) for bias in given]
        y = with_bias(x, weight, torch.cat(given, -1) if given else None, bounds)
        return y.chunk(len(biases), -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        g = side_by_side(grads, grads[0].dim() - 1).flatten(-2)
        to_x = g @ weight if ctx.needs_input_grad[0] else None
        needed = ctx.needs_input_grad[3:]
        sums = sum_rows(g, ctx.bounds, ctx.many).chunk(len(grads), -1) if any(needed) else grads
        return to_x, None, None, *(own if needs else None for own, needs in zip(sums, needed, strict=True))


def side_by_side(parts: Sequence[Tensor], dim: int) -> Tensor:
    """`torch.stack`, but no copy where the parts are neighbours in one tensor. Autograd does not see through it."""
    first = parts[0]
    step = parts[1].storage_offset() - first.storage_offset()
    neighbours = step > 0 and all(
        other.storage_offset() - one.storage_offset() == step
        and other.untyped_storage().data_ptr() == one.untyped_storage().data_ptr()
        and (other.shape, other.stride(), other.dtype) == (one.shape, one.stride(), one.dtype)
        for one, other in pairwise(parts)
    )
    if not neighbours:
        return torch.stack(list(parts), dim)
    shape = (*first.shape[:dim], len(parts), *first.shape[dim:])
    return first.as_strided(shape, (*first.stride()[:dim], step, *first.stride()[dim:]))
