"""The change of each term in each layer as a picture, the paper's figure 1; knows nothing of how changes are had."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bitfit.delta.changes import Change
from bitfit.errors import DeltaError, MissingExtraError

CELL_INCHES = 0.45


def draw_changes(changes: Sequence[Change], path: str | Path, title: str = "") -> Path:
    """Writes a heat map: terms down, layers across, dark where much moved. The ending says the format: .png, .svg."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("The heat map", "matplotlib", "plots") from None
    names, grid = _grid(changes)
    width, height = (2 + CELL_INCHES * grid.shape[1], 1.5 + CELL_INCHES * grid.shape[0])
    figure = Figure(figsize=(max(4.0, width), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap="Blues", vmin=0.0, aspect="auto")
    axes.set_xticks(range(grid.shape[1]), [str(layer) for layer in range(grid.shape[1])])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("layer")
    axes.set_title(title or "mean absolute change of a term's elements")
    figure.colorbar(image, ax=axes)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise DeltaError(f"'{path}' cannot be drawn: {error}.") from error
    return Path(path)


def _grid(changes: Sequence[Change]) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Names of terms, and their change in each layer; not a number where a layer has no such term."""
    inside = [change for change in changes if change.layer is not None]
    if not inside:
        raise DeltaError("The delta changes no term inside the layers, so there is nothing to draw.")
    names = list(dict.fromkeys(change.symbol or change.role for change in inside))
    layers = 1 + max(change.layer for change in inside if change.layer is not None)
    grid = np.full((len(names), layers), np.nan)
    for change in inside:
        grid[names.index(change.symbol or change.role), change.layer] = change.change
    return names, grid
