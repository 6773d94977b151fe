"""A layer's queries, keys and values computed as one product.

Each stays where it is in the model. The first that is called computes for all, and the others find their answers in
the pass.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from bitfit.backbone.anatomy import sites
from bitfit.runtime.linear import FastLinear, untrained, with_bias
from bitfit.runtime.passes import Pass
from bitfit.runtime.segments import Segments, bias_sums

ROLES = ("query", "key", "value")


def join_qkv(encoder: nn.Module) -> None:
    """Let the fast layers for queries, keys and values of one place compute together, where they are alike."""
    by_module: dict[str, dict[str, FastLinear]] = {}
    for site in sites(encoder):
        layer = encoder.get_submodule(site.name)
        if site.role in ROLES and isinstance(layer, FastLinear) and not layer.turned and layer.input_gain is None:
            by_module.setdefault(site.name.rpartition(".")[0], {})[site.role] = layer
    for named in by_module.values():
        layers = [named[role] for role in ROLES if role in named]
        if len(layers) == len(ROLES) and len({layer.weight.shape for layer in layers}) == 1:
            JointLinear(layers)


class JointLinear:
    """Some layers of one input and one size. Their weights become parts of one matrix."""

    def __init__(self, layers: Sequence[FastLinear]) -> None:
        self.layers, self.compute = tuple(layers), layers[0].compute
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        for number, (layer, part) in enumerate(zip(layers, self.weight.chunk(len(layers)), strict=True)):
            layer.weight = untrained(part)
            layer.joint = partial(self.maybe_answer, number)
        self.weights = [layer.weight for layer in layers]

    def maybe_answer(self, number: int, x: Tensor, now: Pass) -> Tensor | None:
        """What one of the layers answers; None where a weight trains or has trained, so that each must work alone."""
        if any(now.value(layer.weight) is not weight for layer, weight in zip(self.layers, self.weights, strict=True)):
            return None
        given, answers = now.joint.get(self, (None, None))
        if given is not x or answers[number] is None:
            answers = list(self._all(x.to(self.compute), now))
            now.joint[self] = (x, answers)
        answer: Tensor | None = answers[number]
        answers[number] = None
        if not any(other is not None for other in answers):
            del now.joint[self]
        return answer

    def _all(self, x: Tensor, now: Pass) -> tuple[Tensor, ...]:
        biases = [layer.added(now) for layer in self.layers]
        outputs: tuple[Tensor, ...] = _JointLinear.apply(x, self.weight, now.segments, *biases)  # type: ignore[no-untyped-call]
        return outputs


class _JointLinear(torch.autograd.Function):
    """Frozen linear layers of one size; their answers are parts of one tensor."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, segments: Segments | None, *biases: Tensor | None
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weight)
        ctx.segments, ctx.dims = segments, [0 if bias is None else bias.dim() for bias in biases]
        y = with_bias(x, weight, _side_by_side_or_none(biases, len(weight) // len(biases)), segments)
        return y.chunk(len(biases), -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        g = side_by_side(grads, grads[0].dim() - 1).flatten(-2)
        to_x = g @ weight if ctx.needs_input_grad[0] else None
        needed = ctx.needs_input_grad[3:]
        many = 2 in ctx.dims
        sums = bias_sums(g, ctx.segments, many).chunk(len(grads), -1) if any(needed) else grads
        to_biases = (total.sum(0) if many and dim == 1 else total for total, dim in zip(sums, ctx.dims, strict=True))
        return to_x, None, None, *(each if needs else None for each, needs in zip(to_biases, needed, strict=True))


def _side_by_side_or_none(biases: Sequence[Tensor | None], size: int) -> Tensor | None:
    """One bias of all layers, zero for those without; for each row where one of them has one for each."""
    given = [bias for bias in biases if bias is not None]
    if not given:
        return None
    shape = next((bias.shape for bias in given if bias.dim() == 2), given[0].shape)
    zero = given[0].new_zeros(())
    return torch.cat([(zero if bias is None else bias).expand(*shape[:-1], size) for bias in biases], -1)


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
