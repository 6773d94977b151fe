"""Draws README's picture, light and dark: `python docs/picture.py` writes picture-light.svg and picture-dark.svg."""

from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT = 880, 330
PALETTES = {
    "light": {"ink": "#1f2328", "soft": "#59636e", "box": "#eaeef2", "line": "#afb8c1"},
    "dark": {"ink": "#e6edf3", "soft": "#9198a1", "box": "#262c36", "line": "#4d5663"},
}
# Colours that the usual forms of colour blindness tell apart (Okabe and Ito, 2008).
ROWS = (("spam?", "#e69f00"), ("topic", "#56b4e9"), ("mood", "#009e73"), ("run, seed 0", "#cc79a7"))
LAYERS, CELLS = 3, 4  # drawn; a cell is some vectors of a layer
STACK_X, STACK_WIDTH, TOP, STEP = 260, 170, 84, 48
MATRIX_X, CELL, GAP = 592, 18, 12


def picture(colours: dict[str, str]) -> str:
    """The whole drawing in one palette."""
    style = "font-family: -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
    parts = [*_titles(colours), *_texts(colours), *_stack(colours), *_matrix(colours), *_formula(colours)]
    title = "A batch of texts of several tasks goes through one frozen backbone; each text adds its own row of biases."
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" style="{style}">'
    return "\n".join([head, f"<title>{title}</title>", *parts, "</svg>"]) + "\n"


def _titles(colours: dict[str, str]) -> Iterator[str]:
    middle = MATRIX_X + (LAYERS * CELLS * CELL + (LAYERS - 1) * GAP) / 2
    for x, big, small in (
        (110, "a mixed batch", "each text has a row"),
        (STACK_X + STACK_WIDTH / 2, "a frozen backbone", "one copy of the weights"),
        (middle, "a matrix of biases", "a row is a run, a task or an example"),
    ):
        yield _text(x, 30, big, colours["ink"], 17, "middle", "600")
        yield _text(x, 52, small, colours["soft"], 13, "middle")


def _texts(colours: dict[str, str]) -> Iterator[str]:
    """The batch: one bar of tokens for each text, in the colour of its row."""
    for number, (_, colour) in enumerate(ROWS):
        y, tokens = _row_y(number), (5, 7, 4, 6)[number]
        for token in range(tokens):
            yield _box(40 + 20 * token, y, 16, 24, colour)
    yield _arrow(196, STACK_X - 12, TOP + 1.5 * STEP + 12, colours)


def _stack(colours: dict[str, str]) -> Iterator[str]:
    """The layers, and the line along which each adds its columns of the matrix."""
    for layer in range(LAYERS):
        y = TOP + 8 + layer * 58
        yield _box(STACK_X, y, STACK_WIDTH, 46, colours["box"], colours["line"])
        yield _text(STACK_X + STACK_WIDTH / 2, y + 28, f"layer {layer + 1}", colours["soft"], 14, "middle")
    middle = TOP + 1.5 * STEP + 12
    yield _text(STACK_X + STACK_WIDTH + 24, middle + 8, "+", colours["ink"], 24, "middle", "600")
    yield _arrow(MATRIX_X - 98, STACK_X + STACK_WIDTH + 38, middle, colours)


def _matrix(colours: dict[str, str]) -> Iterator[str]:
    for number, (label, colour) in enumerate(ROWS):
        y = _row_y(number)
        yield _text(MATRIX_X - 10, y + 17, label, colours["ink"], 13, "end")
        for cell in range(LAYERS * CELLS):
            x = MATRIX_X + cell * CELL + cell // CELLS * GAP
            shade = 0.45 + 0.55 * ((cell * 7 + number * 5) % 9) / 8
            yield _box(x, y, CELL - 2, 24, colour, opacity=shade)
    for layer in range(LAYERS):
        x = MATRIX_X + layer * (CELLS * CELL + GAP) + (CELLS * CELL - 2) / 2
        yield _text(x, _row_y(len(ROWS)) + 6, f"layer {layer + 1}", colours["soft"], 12, "middle")


def _formula(colours: dict[str, str]) -> Iterator[str]:
    own = f'<tspan fill="{ROWS[0][1]}" font-weight="600">b[row of this text]</tspan>'
    words = f'in every layer: &#160; h = <tspan font-weight="600">W</tspan> x + {own}'
    yield _text(WIDTH / 2, HEIGHT - 16, words, colours["ink"], 16, "middle")


def _row_y(number: int) -> float:
    return TOP + number * STEP


def _box(x: float, y: float, width: float, height: float, fill: str, line: str = "none", opacity: float = 1) -> str:
    size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"'
    return f'<rect {size} fill="{fill}" stroke="{line}" fill-opacity="{opacity:.2f}"/>'


def _text(x: float, y: float, words: str, fill: str, size: int, anchor: str, weight: str = "400") -> str:
    look = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}"'
    return f'<text x="{x:g}" y="{y:g}" {look}>{words}</text>'


def _arrow(start: float, end: float, y: float, colours: dict[str, str]) -> str:
    """A line with a head at its end, whichever way it points."""
    back = end - 8 if end > start else end + 8
    line = f"M{start:g} {y:g}H{end:g}M{back:g} {y - 5:g}L{end:g} {y:g}L{back:g} {y + 5:g}"
    return f'<path d="{line}" fill="none" stroke="{colours["soft"]}" stroke-width="2" stroke-linecap="round"/>'


if __name__ == "__main__":
    for name, colours in PALETTES.items():
        (HERE / f"picture-{name}.svg").write_text(picture(colours), encoding="utf-8")
