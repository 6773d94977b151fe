"""What families share that put gains and biases at sites of a model."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.anatomy import Site, blocks, is_norm, sites, vector_terms
from bitfit.errors import RequestError
from bitfit.methods.added_bias import with_biases
from bitfit.methods.family import InsertingFamily
from bitfit.methods.insertion import Undo, maybe_get_insertion
from bitfit.methods.selection import Slot
from bitfit.runtime import sites as runtime_sites
from bitfit.runtime.sites import LEAVES, Leaf, inserted

FUSED = ("query", "key", "value")  # the roles that a fused projection has in one vector


class SiteFamily(InsertingFamily):
    """Gains and shifts, zero at the start, so that the first answers are the backbone's."""

    shares_a_pass = True

    def __post_init__(self) -> None:
        self.refuse_terms()

    @abstractmethod
    def leaves(self, role: str) -> tuple[Leaf, ...]:
        """What is put where a module has this role; nothing for an empty tuple."""

    def chosen(self, model: nn.Module) -> dict[Site, tuple[Leaf, ...]]:
        """The sites in the layers asked for, with what is put there."""
        layers, modules = self.chosen_layers(model), dict(model.named_modules())
        leaves_by_site: dict[Site, tuple[Leaf, ...]] = {}
        for site in (*sites(model), *blocks(model)):
            fits = site.role == "block" or _is_layer(modules[site.name])
            roles = (site.role,) if site.fused is None else FUSED
            leaves = {leaf for role in roles for leaf in self.leaves(role)}
            if site.layer in layers and fits and leaves:
                leaves_by_site[site] = tuple(leaf for leaf in LEAVES if leaf in leaves)
        if not leaves_by_site:
            raise RequestError(
                f"'{self.name.text}' finds no place in {type(model).__name__}: the roles of its layers are not known. "
                "'bitfit' trains the biases of any architecture."
            )
        return leaves_by_site

    def put_in(self, model: nn.Module) -> Undo:
        width: Any = getattr(model.config, "hidden_size", None)
        steps = [
            runtime_sites.insert(model.get_submodule(site.name), leaves, width if site.role == "block" else None)
            for site, leaves in self.chosen(model).items()
        ]

        def undo() -> None:
            for step in steps:
                step()

        return undo

    def start(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        del name, generator
        return torch.zeros(shape)

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        """The new vectors; of a fused projection's the parts whose roles were asked for."""
        del seed
        self.inserted(model)
        chosen = self.chosen(model).items()
        return [slot for site, leaves in chosen for leaf in leaves for slot in self._slots_of(model, site, leaf)]

    def _slots_of(self, model: nn.Module, site: Site, leaf: Leaf) -> list[Slot]:
        name = f"{site.name}.{leaf}"
        if leaf == "input_gain" or (leaf == "gain" and site.fused is None):
            return [Slot.of_parameter(model, name)]
        biases = [
            term for term in vector_terms(model, name, site) if site.fused is None or leaf in self.leaves(term.role)
        ]
        if leaf == "shift":
            return [Slot.of_term(model, term) for term in biases]
        # A key's shift may be inert in some of its elements, its gain is not.
        indices: dict[str, list[NDArray[np.int64]]] = {}
        for term in biases:
            if term.index is not None:
                indices.setdefault(term.role, []).append(term.index)
        shape = tuple(model.get_parameter(name).shape)
        return [Slot(name, shape, np.sort(np.concatenate(each)), part=role) for role, each in indices.items()]

    def maybe_get_ordinary(self, model: PreTrainedModel) -> PreTrainedModel | None:
        """Gains fold into the weights before them, shifts into biases; a block's have no place."""
        folded: dict[nn.Module, dict[str, Tensor]] = {}
        for site in self.chosen(model):
            module = model.get_submodule(site.name)
            new_values = None if site.role == "block" else _folded(module)
            if new_values is None:
                return None
            folded[module] = new_values
        insertion = maybe_get_insertion(model)
        assert insertion is not None
        insertion.undo()
        new = False
        for module, values in folded.items():
            for leaf, value in values.items():
                new |= module._parameters.get(leaf) is None
                module.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
        return with_biases(model) if new else model


def _is_layer(module: nn.Module) -> bool:
    """Is it a linear layer or a norm?"""
    return isinstance(module, nn.Linear | Conv1D) or is_norm(module)


def _folded(module: nn.Module) -> dict[str, Tensor] | None:
    """A layer's weight and bias with what was put in; None for an RMS norm, which could not add the shift."""
    gain, shift, input_gain = (inserted(module, leaf) for leaf in ("gain", "shift", "input_gain"))
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    turned = isinstance(module, Conv1D)  # (in, out)
    with torch.no_grad():
        folded = weight.t() if turned else weight
        added = None if bias is None else bias.clone()
        if input_gain is not None:
            folded = folded * (1 + input_gain)
        if gain is not None:
            folded = folded * (1 + gain if folded.dim() == 1 else (1 + gain)[:, None])
            added = None if added is None else added * (1 + gain)
        if shift is not None and (added is not None or shift.any()):
            added = shift.clone() if added is None else added + shift
    if bias is None and added is not None and is_norm(module) and not isinstance(module, nn.LayerNorm):
        return None
    values = {"weight": (folded.t() if turned else folded).contiguous().clone()}
    return values if added is None else {**values, "bias": added}
