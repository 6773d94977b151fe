"""Drawings as SVG, in the colours of the page that they stand in: lines and points, matrices, bars."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bitfit.page.markup import Markup, element, joined, shortened

WIDTH, HEIGHT = 290, 226  # of a plot: three stand beside each other
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 44  # margins, where ticks and names stand
LETTER = 6.9  # about the width of a letter of 12 pixels
MOST_POINTS = 1500  # of a series: more are thinned out
MOST_NAME = 22  # letters of a name beside a matrix or a bar
SMALLEST_NAMED = 15  # cells of a matrix whose rows have names

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points, joined by a line or not."""

    name: str  # in the key; empty: none
    points: Sequence[Point]
    style: str  # a class of the page's style: s1, s2, guide, mark
    line: bool = True
    dots: bool = False
    weights: Sequence[float] = ()  # of each point, from 0 to 1: the size of its dot; empty: all alike


@dataclass(frozen=True)
class Axes:
    """What a plot's sides mean; a side without a range takes that of the points."""

    x: str
    y: str
    x_range: Point | None = None
    y_range: Point | None = None
    whole_x: bool = False  # ticks at whole numbers alone
    percent: bool = False  # both sides are shares


def plot(title: str, axes: Axes, series: Sequence[Series]) -> Markup:
    """Lines and points over two axes."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return Markup("")
    x = _range(axes.x_range, [point[0] for one in drawn for point in one.points])
    y = _range(axes.y_range, [point[1] for one in drawn for point in one.points])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(point: Point) -> Point:
        return (
            LEFT + (right - LEFT) * (point[0] - x[0]) / (x[1] - x[0]),
            bottom - (bottom - TOP) * (point[1] - y[0]) / (y[1] - y[0]),
        )

    parts: list[Markup] = []
    for value in ticks(x, 6, axes.whole_x):
        across = at((value, y[0]))[0]
        parts += [
            _line((across, TOP), (across, bottom), "grid"),
            _text(across, bottom + 15, _tick(value, axes), "middle"),
        ]
    for value in ticks(y, 6):
        down = at((x[0], value))[1]
        parts += [_line((LEFT, down), (right, down), "grid"), _text(LEFT - 6, down + 4, _tick(value, axes), "end")]
    for one in drawn:
        parts += _drawn(one, [at(point) for point in _thinned(one.points)])
    parts += [_text((LEFT + right) / 2, HEIGHT - 8, axes.x, "middle"), _text(4, 13, axes.y, "start")]
    return _picture(title, WIDTH, HEIGHT, [*parts, *_key(drawn)], "plot")


def _drawn(one: Series, points: Sequence[Point]) -> list[Markup]:
    parts = []
    if one.line:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(element("polyline", {"class": f"line {one.style}", "points": path}))
    if one.dots:
        alike = 3.5 if len(points) <= 50 else 2.0
        sizes = [2 + 5 * math.sqrt(weight) for weight in one.weights] or [alike] * len(points)
        for (x, y), size in zip(points, sizes, strict=True):
            parts.append(element("circle", {"class": f"dot {one.style}", "cx": x, "cy": y, "r": size}))
    return parts


def _key(series: Sequence[Series]) -> list[Markup]:
    """The names of the series, in a line at the top on the right."""
    parts: list[Markup] = []
    end = float(WIDTH - RIGHT)
    for one in reversed([one for one in series if one.name]):
        parts.append(_text(end, 13, one.name, "end"))
        end -= LETTER * len(one.name) + 9
        parts.append(element("circle", {"class": f"dot {one.style}", "cx": end, "cy": 9, "r": 4}))
        end -= 14
    return parts


@dataclass(frozen=True)
class Cell:
    """One cell of a matrix."""

    row: int
    column: int
    share: float  # how dark it is, from 0 to 1
    text: str


def matrix(
    title: str, names: tuple[Sequence[str], Sequence[str]], cells: Iterable[Cell], sides: tuple[str, str]
) -> Markup:
    """Rows and columns of shaded cells; the sides say what rows and columns are."""
    rows, columns = names
    size = _cell_size(max(len(rows), len(columns)))
    named, flat = size >= SMALLEST_NAMED, max(map(len, columns), default=0) * LETTER <= size
    left = 24 + _room(rows) if named else 24
    top = 44 if flat else 24 + _room(columns) if named else 24
    width, height = size * len(columns), size * len(rows)
    parts = [element("rect", {"class": "absent", "x": left, "y": top, "width": width, "height": height})]
    for cell in cells:
        parts += _cell(cell, (left + size * cell.column, top + size * cell.row), size, (rows, columns))
    if named:
        parts += [_text(left - 6, top + size * (i + 0.5) + 4, _short(name), "end") for i, name in enumerate(rows)]
        for i, name in enumerate(columns):
            middle = left + size * (i + 0.5)
            parts.append(
                _text(middle, top - 6, name, "middle") if flat else _turned(middle + 4, top - 6, _short(name), "start")
            )
    parts.append(_text(left + width / 2, 13, sides[1], "middle"))
    parts.append(_turned(13, top + height / 2, sides[0], "middle"))
    return _picture(title, left + width + 8, top + height + 8, parts)


def _cell_size(count: int) -> float:
    """Of a matrix with so many rows or columns."""
    return next((size for most, size in ((4, 64), (8, 44), (20, 36), (60, 15)) if count <= most), max(2.0, 720 / count))


def _cell(cell: Cell, at: Point, size: float, names: tuple[Sequence[str], Sequence[str]]) -> list[Markup]:
    label = element("title", None, f"{names[0][cell.row]} / {names[1][cell.column]}: {cell.text}")
    edge = size - 1 if size > 4 else size
    square: dict[str, str | float | None] = {"x": at[0], "y": at[1], "width": edge, "height": edge}
    parts = [
        element("rect", {"class": "under", **square}),
        element("rect", {"class": "cell", **square, "fill-opacity": cell.share}, label),
    ]
    if len(cell.text) * LETTER <= size:
        ink = "on" if cell.share > 0.55 else None
        parts.append(_text(at[0] + edge / 2, at[1] + edge / 2 + 4, cell.text, "middle", ink))
    return parts


def bars(title: str, items: Sequence[tuple[str, float, str]], most: float, highlighted: int = 0) -> Markup:
    """A bar for each (name, length, what it says), the first `highlighted` of them in the page's colour."""
    left, width, step = _room([name for name, _, _ in items]) + 4, 230, 26
    parts = []
    for number, (name, value, text) in enumerate(items):
        y = 4 + step * number
        long = width * min(max(value / most, 0), 1) if most > 0 else 0
        parts.append(_text(left - 8, y + 14, _short(name), "end"))
        style = "bar highlighted" if number < highlighted else "bar"
        parts.append(element("rect", {"class": style, "x": left, "y": y, "width": max(long, 1), "height": 18, "rx": 2}))
        parts.append(_text(left + long + 6, y + 14, text, "start"))
    return _picture(title, left + width + 60, 8 + step * len(items), parts)


# ---------------------------------------------------------------------- ranges and ticks


def ticks(ends: Point, wanted: int, whole: bool = False) -> list[float]:
    """Round numbers inside a range, about as many as wanted."""
    step = _round_step((ends[1] - ends[0]) / max(wanted - 1, 1))
    step = max(1.0, step) if whole else step
    first = math.ceil(ends[0] / step - 1e-9)
    count = min(math.floor(ends[1] / step + 1e-9) - first + 1, 4 * wanted)
    return [(first + number) * step for number in range(max(count, 0))]


def _round_step(step: float) -> float:
    """The next of 1, 2, 5, 10 ... from here."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * one for one in (1, 2, 5, 10, 20) if power * one >= step * 0.999)


def _range(given: Point | None, values: Sequence[float]) -> Point:
    """The given range, or that of the values with some room; never of no length."""
    if given is not None:
        return given
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or max(abs(high), 1e-3) * 0.1
    return low - room, high + room


def _tick(value: float, axes: Axes) -> str:
    if axes.percent:
        return f"{100 * value:.0f}"
    return "0" if abs(value) < 1e-12 else f"{value:.4g}"


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Evenly fewer of many, the last one among them."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(step * number)] for number in range(MOST_POINTS)]


# ---------------------------------------------------------------------- SVG


def _picture(title: str, width: float, height: float, parts: Iterable[str], style: str | None = None) -> Markup:
    shape = {
        "class": style,
        "viewBox": f"0 0 {width:.0f} {height:.0f}",
        "width": f"{width:.0f}",
        "role": "img",
        "aria-label": title,
    }
    return element("svg", shape, joined(parts))


def _line(start: Point, end: Point, style: str) -> Markup:
    return element("line", {"class": style, "x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]})


def _text(x: float, y: float, text: str, anchor: str, style: str | None = None) -> Markup:
    return element("text", {"x": x, "y": y, "text-anchor": anchor, "class": style}, text)


def _turned(x: float, y: float, text: str, anchor: str) -> Markup:
    where = f"translate({x:.1f} {y:.1f}) rotate(-90)"
    return element("text", {"transform": where, "text-anchor": anchor}, text)


def _short(name: str) -> str:
    return shortened(name, MOST_NAME)


def _room(names: Sequence[str]) -> float:
    """What the longest of some names takes."""
    return LETTER * min(max(map(len, names), default=0), MOST_NAME) + 8
