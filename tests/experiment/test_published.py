"""The published figures agree with themselves."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from bitfit.experiment.published import TABLES, Line, average, lines, published

LINES = [line for table in TABLES for line in lines(table)]
SHARED = Path(__file__).parents[2] / ".." / "shared" / "published.toml"


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.table}-{line.model}-{line.method}-{line.split}")
def test_every_printed_average_follows_from_its_row(line: Line) -> None:
    found = average({task: score.mean for task, score in line.scores.items()})
    # Printed with one decimal from unrounded figures: half a unit for the average, and as much for its parts.
    assert found == pytest.approx(line.average, abs=0.1)


def test_mnli_counts_once() -> None:
    assert average({"rte": 70.0, "mnli_m": 80.0, "mnli_mm": 90.0}) == pytest.approx(77.5)
    assert average({"rte": 70.0, "mnli_m": 80.0}) == pytest.approx(75.0)


def test_every_row_scores_the_tasks_that_have_a_metric() -> None:
    for line in LINES:
        assert set(line.scores) == set(published()["metrics"])


def test_bitfit_is_in_every_table_with_its_spread_or_its_split() -> None:
    for table in TABLES:
        assert any(line.method == "bitfit" and line.percent <= 0.09 for line in lines(table))


def test_the_figures_are_those_that_were_handed_to_us() -> None:
    if not SHARED.exists():
        pytest.skip("the shared folder is not on this machine")
    ours = tomllib.loads(files("bitfit.experiment").joinpath("published.toml").read_text(encoding="utf-8"))
    del ours["recipe"]  # put together from them and the authors' code
    assert ours == tomllib.loads(SHARED.read_text(encoding="utf-8"))
