"""Whether two methods differ: Welch's t test over seeds, with Holm's correction.

A verdict is told at LEVEL, two-sided: where nothing differs, one family of pairs in twenty has a clear one. (At three
seeds, and spreads five times as large on one side, Welch's test itself errs in 5.8 % of cases.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Literal

Verdict = Literal["holds", "does not hold", "cannot be told"]
LEVEL = 0.05
# A spread below this share of the mean is rounding: values that are equal, added up in another order.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Figure:
    """One quantity over seeds, or over tasks."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """Their sample standard deviation; None for a single value."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def varies(self) -> bool:
        """Is there a spread beyond rounding?"""
        return self.std is not None and self.std > ROUNDING * abs(self.mean)

    def to_json(self) -> dict[str, Any]:
        """The figure as plain values."""
        return {"mean": self.mean, "std": self.std, "values": list(self.values)}


@dataclass(frozen=True)
class TTest:
    """One t test, two-sided."""

    error: float  # standard error of the difference
    freedom: float  # degrees of freedom
    t: float
    p: float
    corrected: float  # p after Holm's correction over its family


@dataclass(frozen=True)
class Difference:
    """How far one figure is above another, and whether chance explains it."""

    of: str
    over: str
    mean: float
    test: TTest | None
    untested: str = ""  # why there is no test

    @property
    def verdict(self) -> Verdict:
        """Is it above 0? Told only where chance alone would seldom bring as much."""
        if self.test is None or self.test.corrected >= LEVEL:
            return "cannot be told"
        return "holds" if self.mean > 0 else "does not hold"

    def to_json(self) -> dict[str, Any]:
        """The difference as plain values."""
        test = self.test
        return {
            "of": self.of,
            "over": self.over,
            "difference": self.mean,
            "standard_error": test and test.error,
            "t": test and test.t,
            "degrees_of_freedom": test and test.freedom,
            "p": test and test.p,
            "corrected_p": test and test.corrected,
            "verdict": self.verdict,
            **({"untested": self.untested} if self.untested else {}),
        }


def compare(pairs: Sequence[tuple[str, str]], figures: Mapping[str, Figure]) -> list[Difference]:
    """The pairs of which both figures are known, corrected as one family."""
    known = [pair for pair in pairs if set(pair) <= set(figures)]
    return holm([difference(pair, figures[pair[0]], figures[pair[1]]) for pair in known])


def difference(names: tuple[str, str], one: Figure, other: Figure) -> Difference:
    """One figure above another by Welch's test, not yet corrected; the seeds need not be the same.

    No test is made where neither side has a spread: seeds that all give one value (a model that answers the larger
    class, say) say nothing of how far apart other seeds would be, and t would be infinite.
    """
    mean = one.mean - other.mean
    single = [name for name, side in zip(names, (one, other), strict=True) if len(side.values) < 2]
    if single:
        return Difference(*names, mean, None, f"one value of {' and of '.join(single)}: no spread to test with")
    if not one.varies and not other.varies:
        return Difference(*names, mean, None, "no spread on either side")
    shares = [(side.std or 0.0) ** 2 / len(side.values) for side in (one, other)]
    counts = [len(side.values) - 1 for side in (one, other)]
    freedom = sum(shares) ** 2 / sum(share**2 / count for share, count in zip(shares, counts, strict=True))
    return Difference(*names, mean, _t_test(mean, sqrt(sum(shares)), freedom))


def paired(names: tuple[str, str], differences: Sequence[float]) -> Difference:
    """Differences within pairs tested against 0 by Student's test, not yet corrected."""
    figure = Figure(tuple(differences))
    if figure.std is None or not figure.varies:
        why = "no spread" if len(differences) > 1 else "one value: no spread to test with"
        return Difference(*names, figure.mean, None, why)
    count = len(differences)
    return Difference(*names, figure.mean, _t_test(figure.mean, figure.std / sqrt(count), count - 1))


def holm(family: Sequence[Difference]) -> list[Difference]:
    """The same differences with p corrected: the smallest times the number of tests, the next times one less, ..."""
    tests = sorted((one.test.p, i) for i, one in enumerate(family) if one.test is not None)
    corrected, largest = list(family), 0.0
    for rank, (p, i) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - rank)))
        test = family[i].test
        assert test is not None
        corrected[i] = replace(family[i], test=replace(test, corrected=largest))
    return corrected


def _t_test(mean: float, error: float, freedom: float) -> TTest:
    from scipy.special import stdtr  # the distribution function of Student's t

    t = mean / error
    p = float(2 * stdtr(freedom, -abs(t)))
    return TTest(error, freedom, t, p, p)
