"""`layernorm`: scale and bias of every norm in the encoder, or of some layers."""

from torch import nn

from bitfit.backbone.anatomy import is_norm, sites
from bitfit.errors import RequestError
from bitfit.methods.family import Family
from bitfit.methods.selection import Slot


class LayerNorm(Family):
    """The norms."""

    shares_a_pass = True

    def __post_init__(self) -> None:
        self.refuse_terms()

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        del seed
        norms = norm_slots(model, self.chosen_layers(model) if self.name.layers else None)
        if not norms:
            raise RequestError(f"'{self.name.text}' trains norms, and {type(model).__name__} has none there.")
        return norms


def norm_slots(model: nn.Module, layers: frozenset[int] | None = None) -> list[Slot]:
    """Every parameter of the norms in these layers, or in the whole encoder."""
    modules = dict(model.named_modules())
    norms = {
        site.name
        for site in sites(model)
        if site.role != "head" and is_norm(modules[site.name]) and (layers is None or site.layer in layers)
    }
    return [
        Slot.of_parameter(model, parameter)
        for parameter, _ in model.named_parameters()
        if parameter.rpartition(".")[0] in norms
    ]
