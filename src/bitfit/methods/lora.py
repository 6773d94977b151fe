"""`lora`: two thin matrices beside chosen projections (Hu and others, 2021), put there by the PEFT library.

`lora[r=4,alpha=8,query,key]@6-11` asks for a rank, a scale, roles and layers. Where an architecture has one fused
projection for q, k and v, the whole of it gets the pair. Knows nothing of PEFT's files.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.anatomy import SYMBOLS, sites
from bitfit.errors import MissingExtraError, RequestError, nearest
from bitfit.methods.biases import layer_count
from bitfit.methods.grafts import Graft, GraftFamily, Undo, remove
from bitfit.methods.name import MethodName
from bitfit.methods.slot import Slot

ADAPTER = "default"  # PEFT's name for the only adapter
FUSED = "query_key_value"


@dataclass(frozen=True)
class LoraShape:
    """What the words in brackets ask for; the paper's values where they say nothing."""

    r: int = 8
    alpha: int = 16
    roles: tuple[str, ...] = ("query", "value")

    @property
    def scale(self) -> float:
        """What the product is multiplied with."""
        return self.alpha / self.r

    @classmethod
    def parse(cls, name: MethodName) -> "LoraShape":
        """The words taken apart; one that nobody knows is refused."""
        numbers: dict[str, int] = {}
        roles = []
        for word in name.terms:
            key, is_number, value = word.partition("=")
            if not is_number:
                roles.append(word)
            elif key in ("r", "alpha") and value.isdecimal() and 1 <= int(value) <= 1_000_000:
                numbers[key] = int(value)
            else:
                raise RequestError(f"'lora' takes r=NUMBER and alpha=NUMBER, both above 0; found '{name.text}'.")
        return cls(**numbers, **({"roles": tuple(roles)} if roles else {}))  # type: ignore[arg-type]


def peft() -> Any:
    """The PEFT library, or how to install it."""
    try:
        import peft as library
    except ImportError:
        raise MissingExtraError("The method 'lora'", "peft", "lora") from None
    return library


def targets(model: nn.Module, name: MethodName) -> dict[str, nn.Module]:
    """The projections that get a pair, by name."""
    shape = LoraShape.parse(name)
    modules = dict(model.named_modules())
    layers = name.chosen_layers(layer_count(model))
    known = [p for p in sites(model) if p.layer is not None and isinstance(modules[p.name], nn.Linear | Conv1D)]
    roles = _roles(name, shape, {site.role for site in known})
    found = {p.name: modules[p.name] for p in known if p.role in roles and p.layer in layers}
    if not found:
        raise RequestError(f"'{name.text}' finds no projection in those layers of {type(model).__name__}.")
    for place, module in found.items():
        weight = module.weight
        assert isinstance(weight, Tensor)
        if shape.r > min(weight.shape):
            raise RequestError(f"A rank of at most {min(weight.shape)} fits '{place}'; found '{name.text}'.")
    return found


def _roles(name: MethodName, shape: LoraShape, known: set[str]) -> set[str]:
    """The roles asked for; the fused projection stands for its parts."""
    words = {role: role for role in sorted(known)} | {symbol: role for role, symbol in SYMBOLS.items() if role in known}
    if FUSED in known:
        words |= dict.fromkeys(("query", "key", "value", "b_q", "b_k", "b_v"), FUSED)
    for word in shape.roles:
        if word not in words:
            raise RequestError(f"'{name.text}' finds no projection '{word}' in this model. {nearest(word, words)}")
    return {words[word] for word in shape.roles}


def config(model: nn.Module, name: MethodName) -> Any:
    """PEFT's configuration of this method on this model."""
    found, shape = targets(model, name), LoraShape.parse(name)
    return peft().LoraConfig(
        r=shape.r,
        lora_alpha=shape.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=sorted(found),
        fan_in_fan_out=isinstance(next(iter(found.values())), Conv1D),
    )


def fold(model: nn.Module) -> None:
    """Put each product into the weight beside it, as a new parameter, and take the pairs out of the tree."""
    whole = {
        name: (module.base_layer.weight + module.get_delta_weight(ADAPTER)).detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    remove(model)
    for name, weight in whole.items():
        model.get_submodule(name)._parameters["weight"] = nn.Parameter(weight, requires_grad=False)


def _insert(model: nn.Module, name: MethodName) -> Undo:
    library = peft()
    wanted = config(model, name)
    old = targets(model, name)
    library.inject_adapter_in_model(wanted, model, ADAPTER)
    for place, module in old.items():
        model.get_submodule(place).train(module.training)
    return lambda: _put_back(model, old)


def _put_back(model: nn.Module, old: dict[str, nn.Module]) -> None:
    for place, module in old.items():
        path, _, leaf = place.rpartition(".")
        setattr(model.get_submodule(path), leaf, module)
    if hasattr(model, "peft_config"):
        delattr(model, "peft_config")


def _slots(model: nn.Module, name: MethodName, graft: Graft) -> list[Slot]:
    del name
    return [Slot(key, tuple(model.get_parameter(key).shape)) for key in graft.names]


def _start(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A as torch draws a linear layer; B zero, so that the product is."""
    if ".lora_A." not in name:
        return torch.zeros(shape)
    return torch.empty(shape).uniform_(-1, 1, generator=generator) / math.sqrt(shape[1])


LORA = GraftFamily(_insert, _start, _slots)
