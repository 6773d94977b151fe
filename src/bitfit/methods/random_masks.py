"""The paper's random baselines: as many elements as BitFit trains, drawn anywhere; knows nothing of heads.

Which elements they are is a function of the model's shape and the seed, and the saved file keeps them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.anatomy import sites, terms
from bitfit.errors import RequestError
from bitfit.methods.name import MethodName
from bitfit.methods.slot import Slot

Index = NDArray[np.int64]


def random_uniform(model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
    """Single elements, without replacement, from all parameters of the encoder."""
    budget = _budget(model, name)
    shapes = dict(_encoder_shapes(model))
    ends = np.cumsum([int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()])
    drawn = np.sort(np.random.default_rng(seed).choice(int(ends[-1]), budget, replace=False, shuffle=False))
    starts = np.concatenate(([0], ends[:-1]))
    cuts = np.searchsorted(drawn, ends)
    parts = np.split(drawn, cuts[:-1])
    chosen = {name: part - start for name, part, start in zip(shapes, parts, starts, strict=True) if len(part)}
    return _slots(model, shapes, chosen)


def random_rows_columns(model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
    """Whole rows or whole columns of linear layers' weight matrices; a matrix gives either rows or columns.

    The last line drawn is cut where whole lines cannot add up to the budget.
    """
    budget = _budget(model, name)
    rng = np.random.default_rng(seed)
    shapes = dict(_matrices(model))
    if sum(rows * columns for rows, columns in shapes.values()) < budget:
        raise RequestError(f"'{name.text}' wants {budget:,} elements; the encoder's matrices have fewer.")
    by_rows = dict(zip(shapes, rng.integers(0, 2, len(shapes)) == 0, strict=True))
    lines = [
        _Line(matrix, number, by_rows[matrix])
        for matrix, (rows, columns) in shapes.items()
        for number in range(rows if by_rows[matrix] else columns)
    ]
    chosen: dict[str, list[Index]] = {}
    left = budget
    skipped: list[_Line] = []
    for line in (lines[number] for number in rng.permutation(len(lines))):
        elements = line.elements(shapes[line.matrix])
        if left >= len(elements):
            chosen.setdefault(line.matrix, []).append(elements)
            left -= len(elements)
        else:
            skipped.append(line)
        if not left:
            break
    if left:
        line = skipped[0]
        chosen.setdefault(line.matrix, []).append(line.elements(shapes[line.matrix])[:left])
    return _slots(model, shapes, {matrix: np.sort(np.concatenate(parts)) for matrix, parts in chosen.items()})


@dataclass(frozen=True)
class _Line:
    matrix: str
    number: int
    is_row: bool

    def elements(self, shape: tuple[int, ...]) -> Index:
        """Flat elements of this row or column, sorted."""
        rows, columns = shape
        if self.is_row:
            return np.arange(self.number * columns, (self.number + 1) * columns, dtype=np.int64)
        return np.arange(self.number, rows * columns, columns, dtype=np.int64)


def _budget(model: nn.Module, name: MethodName) -> int:
    if name.terms or name.layers:
        raise RequestError(f"'{name.family}' draws from the whole encoder; found '{name.text}'.")
    budget = sum(term.size for term in terms(model) if term.role != "head")
    if not budget:
        raise RequestError(
            f"'{name.text}' draws as many elements as the model has biases, and {type(model).__name__} has none in its "
            "encoder. 'added-bias' puts new ones on its layers."
        )
    return budget


def _encoder_shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    inside = {site.name for site in sites(model) if site.role != "head"}
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] in inside:
            yield name, tuple(parameter.shape)


def _matrices(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    modules = dict(model.named_modules())
    for name, shape in _encoder_shapes(model):
        if len(shape) == 2 and isinstance(modules[name.rpartition(".")[0]], nn.Linear | Conv1D):
            yield name, shape


def _slots(model: nn.Module, shapes: dict[str, tuple[int, ...]], chosen: dict[str, Index]) -> list[Slot]:
    """Slots over the drawn elements; those whose gradient is exactly zero go to a slot that is kept still."""
    still: dict[str, Index] = {}
    for term in terms(model):
        if term.inert:
            still[term.name] = np.arange(term.size) if term.index is None else term.index
    found = []
    for name, index in chosen.items():
        held = np.isin(index, still.get(name, np.empty(0, np.int64)))
        for part, mask in (("", ~held), ("still", held)):
            if mask.any():
                found.append(Slot(name, shapes[name], index[mask], bool(part), part=part))
    return found
