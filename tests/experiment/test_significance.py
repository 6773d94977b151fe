"""Verdicts are told at their level: pure noise is called clear no more often than that, and large effects are."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from bitfit.experiment.significance import LEVEL, Difference, Figure, TTest, compare, difference, holm, paired

CHAIN = ("a", "b", "c", "d", "e")
PAIRS = [*pairwise(CHAIN), (CHAIN[0], CHAIN[-1])]


def clear_share(families: int, seeds: int, spreads: tuple[float, ...], grid: float = 0.0) -> float:
    """The share of families without any true difference in which some pair is called clear."""
    draw = np.random.default_rng(7)
    wrong = 0
    for _ in range(families):
        values = 70 + draw.normal(size=(len(CHAIN), seeds)) * np.array(spreads)[:, None]
        if grid:
            values = np.round(values / grid) * grid
        found = compare(PAIRS, {name: Figure(tuple(row)) for name, row in zip(CHAIN, values, strict=True)})
        wrong += any(one.verdict != "cannot be told" for one in found)
    return wrong / families


def allowed(families: int) -> float:
    """The level and three standard deviations of a share that is drawn from it."""
    return LEVEL + 3 * (LEVEL * (1 - LEVEL) / families) ** 0.5


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("grid", [0.0, 100 / 277], ids=["smooth", "in steps of one of RTE's 277 rows"])
@pytest.mark.slow
def test_noise_is_called_clear_in_at_most_the_stated_share_of_families(seeds: int, grid: float) -> None:
    assert clear_share(2000, seeds, (1.5,) * 5, grid) <= allowed(2000)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.slow
def test_spreads_that_differ_between_methods_stay_near_that_share(seeds: int) -> None:
    assert clear_share(2000, seeds, (0.5, 3.0, 1.0, 0.2, 2.0)) <= allowed(2000)


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_single_pair_keeps_the_level_too(seeds: int) -> None:
    draw = np.random.default_rng(3)
    sides = draw.normal(size=(4000, 2, seeds))
    told = [compare([("a", "b")], {"a": Figure(tuple(a)), "b": Figure(tuple(b))})[0].verdict for a, b in sides]
    assert sum(verdict != "cannot be told" for verdict in told) / len(told) <= allowed(len(told))


def test_a_difference_of_many_spreads_is_told_in_both_directions() -> None:
    high, low = Figure((90.0, 90.5, 91.0)), Figure((80.0, 80.5, 81.0))
    assert difference(("high", "low"), high, low).verdict == "holds"
    assert difference(("low", "high"), low, high).verdict == "does not hold"


def test_two_standard_errors_at_three_seeds_are_not_enough() -> None:
    # 2.1 standard errors with four degrees of freedom: chance brings as much in one case of ten.
    step = 2.1 * (2 / 3) ** 0.5
    found = difference(("a", "b"), Figure((step - 1, step, step + 1)), Figure((-1.0, 0.0, 1.0)))
    assert found.test is not None
    assert found.test.t == pytest.approx(2.1)
    assert found.verdict == "cannot be told"


def test_the_test_is_welchs_as_scipy_has_it() -> None:
    draw = np.random.default_rng(1)
    for sizes in ((3, 3), (5, 3), (2, 8)):
        one, other = draw.normal(1, 1, sizes[0]), draw.normal(0, 4, sizes[1])
        expected = stats.ttest_ind(one, other, equal_var=False)
        found = difference(("one", "other"), Figure(tuple(one)), Figure(tuple(other))).test
        assert found is not None
        assert (found.t, found.p, found.freedom) == pytest.approx((expected.statistic, expected.pvalue, expected.df))


def test_differences_within_pairs_are_held_against_zero_by_students_test() -> None:
    values = (0.4, 1.2, 0.1, 0.9)
    expected = stats.ttest_1samp(values, 0.0)
    found = paired(("one", "other"), values).test
    assert found is not None
    assert (found.t, found.p, found.freedom) == pytest.approx((expected.statistic, expected.pvalue, 3))


def test_holm_corrects_each_p_by_the_tests_that_are_left() -> None:
    family = [Difference("a", "b", 1.0, TTest(1.0, 4.0, 1.0, p, p)) for p in (0.04, 0.001, 0.02, 0.5)]
    family.insert(2, Difference("a", "b", 1.0, None, "one value"))  # counts for nothing
    corrected = [one.test and one.test.corrected for one in holm(family)]
    # 0.001 x 4, 0.02 x 3, then 0.04 x 2 and never less than the one before.
    assert corrected == [pytest.approx(0.08), pytest.approx(0.004), None, pytest.approx(0.06), pytest.approx(0.5)]


def test_one_seed_cannot_be_told_and_says_which_side_lacks() -> None:
    found = difference(("a", "b"), Figure((9.0,)), Figure((1.0, 1.1)))
    assert (found.verdict, found.test) == ("cannot be told", None)
    assert found.untested == "one value of a: no spread to test with"
    both = difference(("a", "b"), Figure((9.0,)), Figure((1.0,)))
    assert both.untested == "one value of a and of b: no spread to test with"


def test_seeds_that_all_give_one_value_on_both_sides_cannot_be_told() -> None:
    for other in (0.0, 50.0):  # the same value, or another one: either way no seed says how far seeds go
        found = difference(("a", "b"), Figure((0.0,) * 3), Figure((other,) * 3))
        assert (found.verdict, found.untested) == ("cannot be told", "no spread on either side")
    rounded = Figure((0.1 + 0.2, 0.3, 0.3))
    assert not rounded.varies
    assert difference(("a", "b"), rounded, Figure((0.2,) * 3)).test is None


def test_a_spread_on_one_side_is_enough() -> None:
    found = difference(("a", "b"), Figure((5.0, 5.1, 4.9)), Figure((0.0,) * 3))
    assert found.test is not None
    assert found.test.freedom == pytest.approx(2)
    assert found.verdict == "holds"
