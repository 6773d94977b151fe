"""How far training moved each term in each layer, the paper's figure 1, and its picture.

A term's change is (1/dim) * L1 distance from start to end: the mean absolute change of an element.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitfit.backbone.anatomy import Term, terms
from bitfit.backbone.load import Backbone
from bitfit.delta.delta import Delta
from bitfit.delta.model_values import read_values
from bitfit.errors import DeltaError, MissingExtraError
from bitfit.methods.method import Method
from bitfit.methods.selection import Slot

CELL_INCHES = 0.45
LETTER_INCHES = 0.11  # of the title
NO_TERM = "0.85"  # grey: told from a term that did not move, which is white
WEIGHT_ROLE = "weight"  # of a changed parameter that is no bias vector


@dataclass(frozen=True)
class Change:
    """How far one term moved."""

    symbol: str | None
    role: str
    layer: int | None
    name: str
    size: int  # elements of it that the delta holds
    change: float  # mean absolute difference from the backbone

    def to_json(self) -> dict[str, Any]:
        """The change as JSON values."""
        return asdict(self)


def changes(delta: Delta, backbone: Backbone) -> tuple[Change, ...]:
    """The change of every term that the delta holds, in the model's order.

    What has no start that the file knows is left out: heads, and new parameters drawn by a seed that it does not say.
    """
    delta.check(backbone)
    model = backbone.task_model(delta.task.head)
    seed = delta.settings.get("seed")
    method = Method.maybe_of(delta.method)
    if method is not None:  # new parameters began as this seed drew them
        method.insert(model, seed if isinstance(seed, int) else 0)
    drawn = set() if isinstance(seed, int) or method is None else _drawn(model, method)
    slots = [slot for slot in delta.slots if not slot.in_head and slot.name not in drawn]
    starts = read_values(slots, model)
    by_name: dict[str, list[Term]] = {}
    for term in terms(model):
        by_name.setdefault(term.name, []).append(term)
    return tuple(
        change
        for slot in slots
        for change in _of_slot(
            slot,
            np.abs(delta.values[slot.key] - starts[slot.key].astype(np.float64)),
            by_name.get(slot.name, []),
        )
    )


def by_layer(changes: Sequence[Change]) -> dict[tuple[str, int], float]:
    """The change of each term in each layer, where it has one: terms that share a symbol there are one vector."""
    sums: dict[tuple[str, int], tuple[float, int]] = {}
    for change in changes:
        if change.layer is not None:
            cell = (change.symbol or change.role, change.layer)
            total, size = sums.get(cell, (0.0, 0))
            sums[cell] = (total + change.change * change.size, size + change.size)
    return {cell: total / size for cell, (total, size) in sums.items()}


def _drawn(model: nn.Module, method: Method) -> set[str]:
    """New parameters that begin otherwise for another seed."""
    one, other = (method.start(model, seed) for seed in (0, 1))
    return {name for name, start in one.items() if not torch.equal(start, other[name])}


def _of_slot(slot: Slot, moved: NDArray[np.float64], inside: list[Term]) -> Iterator[Change]:
    """One change for each term that the slot touches; the whole slot where it is no bias vector."""
    if not inside:
        yield Change(None, WEIGHT_ROLE, None, slot.name, moved.size, _mean(moved))
    elements = np.arange(moved.size) if slot.index is None else slot.index
    flat = moved.reshape(-1)
    for term in inside:
        part = flat if term.index is None else flat[np.isin(elements, term.index)]
        if part.size:
            yield Change(term.symbol, term.role, term.layer, term.name, part.size, _mean(part))


def _mean(moved: NDArray[np.float64]) -> float:
    return float(moved.mean()) if moved.size else 0.0


# ---------------------------------------------------------------------- as a picture


def draw_changes(changes: Sequence[Change], path: str | Path, title: str = "") -> Path:
    """Writes a heat map: terms down, layers across, dark where much moved. The ending says the format: .png, .svg."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("The heat map", "matplotlib", "plots") from None
    names, grid = _grid(changes)
    title = title or "mean absolute change of a term's elements"
    width, height = (2 + CELL_INCHES * grid.shape[1], 1.5 + CELL_INCHES * grid.shape[0])
    figure = Figure(figsize=(max(4.0, width, LETTER_INCHES * len(title)), height), layout="constrained")
    _check_ending(path, FigureCanvasAgg(figure).get_supported_filetypes())
    axes = figure.add_subplot(facecolor=NO_TERM)
    image = axes.imshow(grid, cmap="Blues", vmin=0.0, aspect="auto")
    axes.set_xticks(range(grid.shape[1]), [str(layer) for layer in range(grid.shape[1])])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("layer")
    figure.suptitle(title)
    figure.colorbar(image, ax=axes)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise DeltaError(f"'{path}' cannot be drawn: {error}.") from error
    return Path(path)


def _check_ending(path: str | Path, formats: Iterable[str]) -> None:
    """Without an ending matplotlib would choose one, and write another file than the one asked for."""
    if Path(path).suffix.removeprefix(".").lower() not in formats:
        raise DeltaError(
            f"A picture's name ends with its format, as in 'changes.png' or 'changes.svg'; found '{path}'."
        )


def _grid(changes: Sequence[Change]) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Names of terms, and their change in each layer; not a number where a layer has no such term."""
    cells = by_layer(changes)
    if not cells:
        raise DeltaError("The delta changes no term inside the layers, so there is nothing to draw.")
    names = list(dict.fromkeys(name for name, _ in cells))
    grid = np.full((len(names), 1 + max(layer for _, layer in cells)), np.nan)
    for (name, layer), change in cells.items():
        grid[names.index(name), layer] = change
    return names, grid
