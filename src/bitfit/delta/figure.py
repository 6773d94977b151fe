"""The change of each term in each layer as a picture, the paper's figure 1; knows nothing of how changes are had."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bitfit.delta.changes import Change, by_layer
from bitfit.errors import DeltaError, MissingExtraError

CELL_INCHES = 0.45
LETTER_INCHES = 0.11  # of the title
NO_TERM = "0.85"  # grey: told from a term that did not move, which is white


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
