"""The paper's random baselines: elements of the encoder drawn by the seed.

Which elements they are is a function of the model's shape and the seed, and the saved file keeps them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.anatomy import Site, is_norm, sites, terms
from bitfit.errors import RequestError
from bitfit.methods.family import Family
from bitfit.methods.selection import Slot

Index = NDArray[np.int64]
Shape = tuple[int, ...]
INERT = "still"  # in files: the part of a slot whose gradient is exactly zero


class RandomFamily(Family):
    """What draws from the whole encoder."""

    def __post_init__(self) -> None:
        if self.name.terms or self.name.layers:
            raise RequestError(f"'{self.name.family}' draws from the whole encoder; found '{self.name.text}'.")

    def budget(self, model: nn.Module) -> int:
        """How many elements BitFit trains of the encoder."""
        budget = sum(term.size for term in terms(model) if term.role != "head")
        if not budget:
            raise RequestError(
                f"'{self.name.text}' draws as many elements as the model has biases, and {type(model).__name__} has "
                "none in its encoder. 'added-bias' puts new ones on its layers."
            )
        return budget


class RandomUniform(RandomFamily):
    """Single elements, without replacement, from all parameters of the encoder."""

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        budget = self.budget(model)
        shapes = {name: _shape(model, name) for name in _encoder_parameters(model)}
        ends = np.cumsum([int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()])
        drawn = np.sort(np.random.default_rng(seed).choice(int(ends[-1]), budget, replace=False, shuffle=False))
        starts = np.concatenate(([0], ends[:-1]))
        pieces = np.split(drawn, np.searchsorted(drawn, ends)[:-1])
        chosen = {name: piece - start for name, piece, start in zip(shapes, pieces, starts, strict=True) if len(piece)}
        return _slots(model, chosen)


class RandomRowsColumns(RandomFamily):
    """The reference's: of each weight matrix that has a bias, in the layers and the pooler, one column, or as many rows
    as make the bias's size; and every norm's scale whole.

    The authors' code draws rows with replacement, so it may train one twice; here they are different ones.
    """

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        self.budget(model)
        rng = np.random.default_rng(seed)
        modules = dict(model.named_modules())
        chosen: dict[str, Index] = {}
        for site in sites(model):
            module = modules[site.name]
            if not _is_drawn_from(site, module):
                continue
            name = f"{site.name}.weight"
            shape = _shape(model, name)
            grid = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
            if not is_norm(module):
                grid = _rows_or_column(grid.T if isinstance(module, Conv1D) else grid, rng)
            chosen[name] = np.sort(grid, axis=None)
        return _slots(model, chosen)


class RandomLines(RandomFamily):
    """Whole rows or whole columns, drawn over all weight matrices at once; a matrix gives either rows or columns.

    The last line drawn is cut where whole lines cannot add up to the budget.
    """

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        budget = self.budget(model)
        rng = np.random.default_rng(seed)
        shapes = {name: _shape(model, name) for name in _matrices(model)}
        if sum(rows * columns for rows, columns in shapes.values()) < budget:
            raise RequestError(f"'{self.name.text}' wants {budget:,} elements; the encoder's matrices have fewer.")
        by_rows = dict(zip(shapes, rng.integers(0, 2, len(shapes)) == 0, strict=True))
        lines = [
            _Line(matrix, number, by_rows[matrix])
            for matrix, (rows, columns) in shapes.items()
            for number in range(rows if by_rows[matrix] else columns)
        ]
        taken = _taken([lines[number] for number in rng.permutation(len(lines))], shapes, budget)
        return _slots(model, {matrix: np.sort(np.concatenate(pieces)) for matrix, pieces in taken.items()})


@dataclass(frozen=True)
class _Line:
    matrix: str
    number: int
    is_row: bool

    def elements(self, shape: Shape) -> Index:
        """Flat elements of this row or column, sorted."""
        rows, columns = shape
        if self.is_row:
            return np.arange(self.number * columns, (self.number + 1) * columns, dtype=np.int64)
        return np.arange(self.number, rows * columns, columns, dtype=np.int64)


def _taken(lines: list[_Line], shapes: Mapping[str, Shape], budget: int) -> dict[str, list[Index]]:
    """The elements of each line that still fits, and as much of the first that does not as fills the budget."""
    chosen: dict[str, list[Index]] = {}
    left = budget
    skipped: list[_Line] = []
    for line in lines:
        elements = line.elements(shapes[line.matrix])
        if left >= len(elements):
            chosen.setdefault(line.matrix, []).append(elements)
            left -= len(elements)
        else:
            skipped.append(line)
        if not left:
            return chosen
    line = skipped[0]
    chosen.setdefault(line.matrix, []).append(line.elements(shapes[line.matrix])[:left])
    return chosen


def _is_drawn_from(site: Site, module: nn.Module) -> bool:
    """Not from embeddings or the head, nor from what has no bias to be as large as."""
    inside = site.layer is not None or site.role in ("pooler", "final_norm")
    has_both = all(module._parameters.get(leaf) is not None for leaf in ("weight", "bias"))
    return inside and has_both and (is_norm(module) or isinstance(module, nn.Linear | Conv1D))


def _rows_or_column(grid: Index, rng: np.random.Generator) -> Index:
    """Of the numbers of a matrix's elements, (outputs, inputs): as many as there are outputs, or a few less."""
    outputs, inputs = grid.shape
    chosen: Index
    if outputs < inputs or rng.integers(0, 2):
        chosen = grid[:, rng.integers(0, inputs)]
    else:
        chosen = grid[rng.choice(outputs, outputs // inputs, replace=False)]
    return chosen


def _encoder_parameters(model: nn.Module) -> Iterator[str]:
    inside = {site.name for site in sites(model) if site.role != "head"}
    return (name for name, _ in model.named_parameters() if name.rpartition(".")[0] in inside)


def _matrices(model: nn.Module) -> Iterator[str]:
    modules = dict(model.named_modules())
    for name in _encoder_parameters(model):
        if len(_shape(model, name)) == 2 and isinstance(modules[name.rpartition(".")[0]], nn.Linear | Conv1D):
            yield name


def _shape(model: nn.Module, name: str) -> Shape:
    return tuple(model.get_parameter(name).shape)


def _slots(model: nn.Module, chosen: Mapping[str, Index]) -> list[Slot]:
    """Slots over the drawn elements; those whose gradient is exactly zero go to an inert slot."""
    inert: dict[str, Index] = {}
    for term in terms(model):
        if term.inert:
            inert[term.name] = np.arange(term.size) if term.index is None else term.index
    slots = []
    for name, index in chosen.items():
        is_inert = np.isin(index, inert.get(name, np.empty(0, np.int64)))
        for part, mask in (("", ~is_inert), (INERT, is_inert)):
            if mask.any():
                slots.append(Slot(name, _shape(model, name), index[mask], bool(part), part=part))
    return slots
