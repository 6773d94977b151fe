"""Which terms bring most to a task, and which fit into a budget."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from torch import nn

from bitfit.backbone.anatomy import Term, encoder_of, terms
from bitfit.errors import RequestError, nearest
from bitfit.methods.name import MethodName

Measure = Literal["gradient", "fisher", "change"]
MEASURES: tuple[Measure, ...] = ("gradient", "fisher", "change")


@dataclass(frozen=True)
class Scored:
    """One term and what it would bring, each a mean over its elements."""

    term: Term
    gradient: float  # absolute gradient of the loss, at the start
    fisher: float  # squared gradient of single examples, at the start
    change: float | None = None  # absolute change after a short run; None where there was none

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON values."""
        known = {name: getattr(self.term, name) for name in ("symbol", "role", "layer", "name", "size")}
        return known | {name: value for name, value in asdict(self).items() if name != "term"}


def ranked(scores: Sequence[Scored], by: Measure = "gradient") -> list[Scored]:
    """What brings most first; equal ones in the model's order."""
    if by not in MEASURES:
        raise RequestError(f"Terms are ordered by 'gradient', 'fisher' or 'change'; found '{by}'.")
    return sorted(scores, key=lambda scored: -(getattr(scored, by) or 0.0))


def choose_terms(order: Sequence[Scored], budget: int) -> list[Term]:
    """Terms in this order, each taken if it still fits; those that cannot matter are left out."""
    chosen, left = [], budget
    for scored in order:
        if not scored.term.inert and scored.term.size <= left:
            chosen.append(scored.term)
            left -= scored.term.size
    return chosen


def affordable_terms(model: nn.Module) -> list[Term]:
    """The terms that a budget can buy."""
    return [term for term in terms(model) if term.role != "head" and not term.inert]


def size_of_budget(model: nn.Module, name: MethodName, budget: str) -> int:
    """How many elements a budget allows: a number of them, or a share of the encoder's parameters in percent."""
    share = budget.endswith("%")
    try:
        number = float(budget.removesuffix("%"))
    except ValueError:
        raise RequestError(
            f"A budget looks like 'bitfit[auto:0.04%]' or 'bitfit[auto:5000]'; found '{name.text}'. "
            f"{nearest(budget, ('0.04%', '5000'))}"
        ) from None
    if name.layers:
        raise RequestError(f"A budget is spent over all layers; found '{name.text}'.")
    parameters = sum(parameter.numel() for parameter in encoder_of(model).parameters())
    size = int(number / 100 * parameters) if share and np.isfinite(number) else number
    sizes = [term.size for term in affordable_terms(model)]
    if not sizes:
        raise RequestError(
            f"'{name.text}' chooses among biases, and {type(model).__name__} has none in its encoder. "
            "'added-bias' puts new ones on its layers."
        )
    if not min(sizes) <= size <= sum(sizes):
        raise RequestError(
            f"The budget of '{name.text}' must lie between the smallest term, {min(sizes):,} elements "
            f"({min(sizes) / parameters:.4%}), and all of them, {sum(sizes):,} ({sum(sizes) / parameters:.4%}); "
            f"found {size:,.0f}."
        )
    return int(size)
