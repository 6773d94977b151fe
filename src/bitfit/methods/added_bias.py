"""`added-bias`: new bias vectors on layers that have none, zero at the start; leaves biases that are there alone.

So the first answers equal the backbone's to the bit. Linear layers and layer norms inside the encoder's layers get
one; RMS norms do not, since their layer has no place to add it.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from bitfit.backbone.anatomy import sites
from bitfit.errors import RequestError
from bitfit.methods import biases
from bitfit.methods.grafts import Graft, GraftFamily, Undo
from bitfit.methods.name import MethodName
from bitfit.methods.slot import Slot


def _insert(model: nn.Module, name: MethodName) -> Undo:
    modules = dict(model.named_modules())
    free = [site for site in sites(model) if site.layer is not None and _lacks_bias(modules[site.name])]
    if not free:
        raise RequestError(
            f"'{name.text}' puts biases on layers without one; in {type(model).__name__} every layer has its own. "
            "'bitfit' trains those."
        )
    chosen = [modules[site.name] for site in free]
    for module in chosen:
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        size = weight.shape[0]
        module.register_parameter("bias", nn.Parameter(torch.zeros(size, device=weight.device), requires_grad=False))
    return lambda: _take_away(chosen)


def _slots(model: nn.Module, name: MethodName, graft: Graft) -> list[Slot]:
    """Those of the new vectors that were asked for: the others stay zero and are not saved."""
    new = set(graft.names)
    asked = biases.bitfit(model, replace(name, family="bitfit"), 0)
    found = [slot for slot in asked if slot.name in new]
    if not found:
        raise RequestError(
            f"'{name.text}' matches no new vector: those layers have biases of their own, which 'bitfit' trains."
        )
    return found


def _zeros(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    del name, generator
    return torch.zeros(shape)


def _lacks_bias(module: nn.Module) -> bool:
    """Whether a layer could add a bias and has none."""
    own = module._parameters
    known = type(module) in (nn.Linear, nn.LayerNorm)
    return known and own.get("weight") is not None and own.get("bias") is None


def _take_away(modules: list[nn.Module]) -> None:
    for module in modules:
        module.register_parameter("bias", None)


ADDED_BIAS = GraftFamily(_insert, _zeros, _slots)
