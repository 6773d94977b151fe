"""Drawings hold what they are given, at round numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfit.page.drawings import MOST_POINTS, Axes, Cell, Series, bars, matrix, plot, ticks
from tests.page.reading import Page

NUMBER = st.floats(-1e12, 1e12, allow_nan=False)


@given(NUMBER, st.floats(1e-9, 1e12), st.integers(2, 10))
def test_ticks_are_a_few_inside_the_range(low: float, length: float, wanted: int) -> None:
    high = low + length
    if high <= low:  # a length too small for such numbers
        return
    found = ticks((low, high), wanted)
    assert len(found) <= 4 * wanted
    assert all(low - length * 1e-3 <= value <= high + length * 1e-3 for value in found) or abs(low) > 1e3 * length


@pytest.mark.parametrize(
    ("ends", "whole", "expected"),
    [((0.0, 1.0), False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), ((0.5, 3.5), True, [1, 2, 3]), ((0.5, 1.5), True, [1])],
)
def test_ticks_are_round(ends: tuple[float, float], whole: bool, expected: list[float]) -> None:
    assert ticks(ends, 6, whole) == pytest.approx(expected)


@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=20))
def test_any_points_are_drawn(points: list[tuple[float, float]]) -> None:
    drawn = plot("title", Axes("x", "y"), [Series("one", points, "s1", dots=True)])
    if not points:
        assert drawn == ""
        return
    page = Page(drawn)
    assert page.tags.count("circle") == len(points) + 1  # and the key
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_many_points_are_thinned_out() -> None:
    points = [(float(n), float(n % 7)) for n in range(25_000)]
    page = Page(plot("title", Axes("x", "y"), [Series("", points, "s1", line=False, dots=True)]))
    assert page.tags.count("circle") == MOST_POINTS


def test_a_point_of_more_rows_is_larger() -> None:
    points, weights = [(0.2, 0.3), (0.5, 0.5), (0.9, 0.8)], [0.0, 1.0, 0.25]
    page = Page(plot("title", Axes("x", "y"), [Series("", points, "s1", dots=True, weights=weights)]))
    assert [value for tag, name, value in page.attributes if (tag, name) == ("circle", "r")] == ["2", "7", "4.5"]


@pytest.mark.parametrize("count", [1, 2, 5, 12, 47, 200])
def test_a_matrix_says_what_each_cell_is(count: int) -> None:
    names = [f"class <{number}>" for number in range(count)]
    cells = [Cell(i, i, 0.5, "12") for i in range(count)]
    page = Page(matrix("title", (names, names), cells, ("label", "answer")))
    assert page.tags.count("title") == count
    assert "class <0> / class <0>: 12" in page.text
    assert page.text.count("class <0>") == (4 if count <= 60 else 2)


def test_a_bar_is_as_long_as_its_share() -> None:
    page = Page(bars("title", [("own", 50, "50 %"), ("<other>", 100, "100 %"), ("none", 0, "0 %")], 100))
    widths = [float(value or 0) for tag, name, value in page.attributes if (tag, name) == ("rect", "width")]
    assert widths == [115, 230, 1]
    assert "<other>" in page.text
    assert Page(bars("title", [("own", 0, "0")], 0)).tags.count("rect") == 1
