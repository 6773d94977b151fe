"""`houlsby`: bottleneck adapters after attention and after the MLP (Houlsby and others, 2019).

An adapter is down, GELU, up, and the identity around them. It stands behind the projection that ends its sub-layer and
the dropout of that, before the residual and the norm, as in the authors' code. Weights start near zero, so the first
answers are nearly the backbone's. The norms train as well. `houlsby[64]` asks for a width.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.anatomy import encoder_of, sites
from bitfit.errors import RequestError
from bitfit.methods.family import InsertingFamily
from bitfit.methods.insertion import Undo, swap
from bitfit.methods.layernorm import norm_slots
from bitfit.methods.selection import Slot

SHARE = 0.036  # of the encoder's parameters: what the paper trains of BERT-large, on average over GLUE
# Standard deviation of the weights at the start, cut off at two of them. The paper says 1e-2, the authors' code 1e-3,
# which did better here (benchmarks/log.md).
SPREAD = 1e-3
ROLES = ("attention_output", "output")
# Ends of a projection's name, and of that of the dropout behind it. Where an architecture calls dropout as a function
# (BART, OPT, Bloom) the adapter stands before it; others have none there.
DROPOUTS = (
    ("output.dense", "output.dropout"),
    ("attention.attn.o", "attention.dropout"),
    ("attention.dense", "attention.output_dropout"),
    ("attention.dense", "post_attention_dropout"),
    ("mlp.dense_4h_to_h", "post_mlp_dropout"),
    ("attention.o_proj", "dropout"),
    ("mlp.fc2", "dropout"),
    ("ffn.lin2", "ffn.dropout"),
    ("attn.c_proj", "attn.resid_dropout"),
    ("mlp.c_proj", "mlp.dropout"),
    ("SelfAttention.o", "dropout"),
    ("DenseReluDense.wo", "dropout"),
    ("attn.Wo", "attn.out_drop"),
)


class Adapted(nn.Module):
    """A projection, its dropout, and an adapter behind them."""

    def __init__(self, base_layer: nn.Module, size: int, width: int, dropout: float) -> None:
        super().__init__()
        weight = base_layer.weight
        assert isinstance(weight, Tensor)
        self.base_layer = base_layer
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(size, width, device=weight.device)
        self.up = nn.Linear(width, size, device=weight.device)

    @property
    def weight(self) -> Tensor:
        """The projection's: T5 looks at its type."""
        return cast(Tensor, self.base_layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.base_layer(x))
        step: Tensor = self.up(functional.gelu(self.down(y)))
        return y + step


class Houlsby(InsertingFamily):
    """Adapters in all layers or some, and every norm."""

    learning_rate = 5e-4
    averages = False

    def __post_init__(self) -> None:
        terms = self.name.terms
        if len(terms) > 1 or not all(term.isdecimal() for term in terms):
            raise RequestError(
                f"'houlsby' takes the width of its adapters, as in 'houlsby[64]'; found '{self.name.text}'."
            )

    def put_in(self, model: nn.Module) -> Undo:
        layers = self.chosen_layers(model)
        modules = dict(model.named_modules())
        sizes = {
            site.name: _size(modules[site.name])
            for site in sites(model)
            if site.role in ROLES and site.layer in layers and isinstance(modules[site.name], nn.Linear | Conv1D)
        }
        if not sizes:
            raise RequestError(
                f"'{self.name.text}' puts adapters behind the output projections of attention and MLP, and bitfit "
                f"knows of none in {type(model).__name__}. 'bitfit' trains the biases of any architecture."
            )
        width = self._width(model, sizes)
        dropouts = {name: _maybe_get_dropout(name, modules) for name in sizes}
        rates = {name: modules[dropout].p if dropout else 0.0 for name, dropout in dropouts.items()}
        adapted = {name: Adapted(modules[name], size, width, rates[name]) for name, size in sizes.items()}
        undo = swap(model, {**adapted, **{dropout: nn.Identity() for dropout in dropouts.values() if dropout}})
        for name, module in adapted.items():
            module.train(modules[name].training)
        return undo

    def start(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        values = torch.zeros(shape)
        if not name.endswith(".bias"):
            nn.init.trunc_normal_(values, 0.0, SPREAD, -2 * SPREAD, 2 * SPREAD, generator)
        return values

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        return [*super().slots(model, seed), *norm_slots(model)]

    def _width(self, model: nn.Module, sizes: dict[str, int]) -> int:
        """The bottleneck's width: the one asked for, or what makes adapters and norms the paper's share."""
        most = 4 * max(sizes.values())
        if self.name.terms:
            width = int(self.name.terms[0])
            if not 1 <= width <= most:
                raise RequestError(f"An adapter's width is from 1 to {most} in this model; found '{self.name.text}'.")
            return width
        norms = sum(slot.size for slot in norm_slots(model))
        wanted = SHARE * sum(parameter.numel() for parameter in encoder_of(model).parameters()) - norms
        return min(most, max(1, round((wanted - sum(sizes.values())) / sum(2 * size + 1 for size in sizes.values()))))


def _maybe_get_dropout(projection: str, modules: dict[str, nn.Module]) -> str | None:
    """The name of the dropout layer that takes what a projection gives."""
    tails = [(tail, behind) for tail, behind in DROPOUTS if projection.endswith(f".{tail}")]
    names = [projection.removesuffix(tail) + behind for tail, behind in tails]
    return next((name for name in names if isinstance(modules.get(name), nn.Dropout)), None)


def _size(projection: nn.Module) -> int:
    """How many numbers it gives."""
    weight = projection.weight
    assert isinstance(weight, Tensor)
    return weight.shape[1] if isinstance(projection, Conv1D) else weight.shape[0]
