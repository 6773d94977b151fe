"""`full`: every parameter of the encoder, or of some layers."""

from torch import nn

from bitfit.backbone.anatomy import Term, sites, terms
from bitfit.methods.family import Family
from bitfit.methods.selection import Slot


class Full(Family):
    """Everything; keys' biases that cannot matter stay inert, as everywhere."""

    learning_rate = 5e-5

    def __post_init__(self) -> None:
        self.refuse_terms()

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        del seed
        layers = self.chosen_layers(model) if self.name.layers else None
        inside = {site.name: site.layer for site in sites(model) if site.role != "head"}
        split: dict[str, list[Term]] = {}
        for term in terms(model):
            split.setdefault(term.name, []).append(term)
        slots = []
        for parameter, _ in model.named_parameters():
            module = parameter.rpartition(".")[0]
            if module not in inside or (layers is not None and inside[module] not in layers):
                continue
            biases = [Slot.of_term(model, term) for term in split.get(parameter, ())]
            slots += biases or [Slot.of_parameter(model, parameter)]
        return slots
