"""`lora`: two thin matrices beside chosen projections, by the PEFT library (Hu and others, 2021).

`lora[r=4,alpha=8,query,key]@6-11` asks for a rank, a scale, roles and layers. Where an architecture has one fused
projection for q, k and v, the whole of it gets the pair.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.anatomy import SYMBOLS, sites
from bitfit.errors import MissingExtraError, RequestError, nearest
from bitfit.methods.family import InsertingFamily
from bitfit.methods.insertion import Undo, maybe_get_insertion, put_all
from bitfit.methods.name import MethodName

ADAPTER = "default"  # PEFT's name for the only adapter
FUSED = "query_key_value"


@dataclass(frozen=True)
class LoraShape:
    """What the words in brackets ask for; the paper's values where they say nothing."""

    r: int = 8
    alpha: int = 16
    roles: tuple[str, ...] = ("query", "value")

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
                if key in numbers:
                    raise RequestError(f"'lora' takes one {key}; found '{name.text}'.")
                numbers[key] = int(value)
            else:
                raise RequestError(f"'lora' takes r=NUMBER and alpha=NUMBER, both above 0; found '{name.text}'.")
        return cls(**numbers, **({"roles": tuple(roles)} if roles else {}))  # type: ignore[arg-type]


class Lora(InsertingFamily):
    """The pairs of thin matrices."""

    learning_rate = 5e-4
    averages = False

    def __post_init__(self) -> None:
        _ = self.shape

    @property
    def shape(self) -> LoraShape:
        """Rank, scale and roles."""
        return LoraShape.parse(self.name)

    def put_in(self, model: nn.Module) -> Undo:
        library = peft()
        wanted = self.config(model)
        old = self.targets(model)
        library.inject_adapter_in_model(wanted, model, ADAPTER)
        for name, module in old.items():
            model.get_submodule(name).train(module.training)
        return lambda: _put_back(model, old)

    def start(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """A as torch draws a linear layer; B zero, so that the product is."""
        if ".lora_A." not in name:
            return torch.zeros(shape)
        return torch.empty(shape).uniform_(-1, 1, generator=generator) / math.sqrt(shape[1])

    def targets(self, model: nn.Module) -> dict[str, nn.Module]:
        """The projections that get a pair, by name."""
        modules = dict(model.named_modules())
        layers = self.chosen_layers(model)
        known = [p for p in sites(model) if p.layer is not None and isinstance(modules[p.name], nn.Linear | Conv1D)]
        roles = self._roles({site.role for site in known})
        targets = {p.name: modules[p.name] for p in known if p.role in roles and p.layer in layers}
        if not targets:
            raise RequestError(f"'{self.name.text}' finds no projection in those layers of {type(model).__name__}.")
        for name, module in targets.items():
            weight = module.weight
            assert isinstance(weight, Tensor)
            if self.shape.r > min(weight.shape):
                raise RequestError(f"A rank of at most {min(weight.shape)} fits '{name}'; found '{self.name.text}'.")
        return targets

    def config(self, model: nn.Module) -> Any:
        """PEFT's configuration of this method on this model."""
        targets, shape = self.targets(model), self.shape
        return peft().LoraConfig(
            r=shape.r,
            lora_alpha=shape.alpha,
            lora_dropout=0.0,
            bias="none",
            target_modules=sorted(targets),
            fan_in_fan_out=isinstance(next(iter(targets.values())), Conv1D),
        )

    def maybe_get_ordinary(self, model: PreTrainedModel) -> PreTrainedModel | None:
        """The same model with each product in the weight beside it, as a new parameter, and without the pairs."""
        whole = {
            name: (module.base_layer.weight + module.get_delta_weight(ADAPTER)).detach()
            for name, module in model.named_modules()
            if hasattr(module, "get_delta_weight")
        }
        insertion = maybe_get_insertion(model)
        if insertion is not None:
            insertion.undo()
        for name, weight in whole.items():
            model.get_submodule(name)._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
        return model

    def _roles(self, known: set[str]) -> set[str]:
        """The roles asked for; the fused projection stands for its parts."""
        words = {role: role for role in sorted(known)}
        words |= {symbol: role for role, symbol in SYMBOLS.items() if role in known}
        if FUSED in known:
            words |= dict.fromkeys(("query", "key", "value", "b_q", "b_k", "b_v"), FUSED)
        for word in self.shape.roles:
            if word not in words:
                raise RequestError(
                    f"'{self.name.text}' finds no projection '{word}' in this model. {nearest(word, words)}"
                )
        return {words[word] for word in self.shape.roles}


def peft() -> Any:
    """The PEFT library, or how to install it."""
    try:
        import peft as library
    except ImportError:
        raise MissingExtraError("The method 'lora'", "peft", "lora") from None
    return library


def _put_back(model: nn.Module, old: dict[str, nn.Module]) -> None:
    put_all(model, old.items())
    if hasattr(model, "peft_config"):
        delattr(model, "peft_config")
