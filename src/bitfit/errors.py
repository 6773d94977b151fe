"""The errors that bitfit raises, as one tree; it knows nothing of how they are shown.

    BitfitError            1   anything below
    ├── RequestError       2   what was asked cannot be: a method, term, layer, setting or option
    ├── BackboneError      3   a model that is missing, unreadable or not the expected one
    ├── DataError          4   rows, columns or files that cannot be used
    ├── DeltaError         5   a delta file that is damaged, foreign or made for another backbone
    ├── TrainingError      6   a run that cannot go on: a loss that is not finite, no memory, no disk
    └── MissingExtraError  7   an optional package that is not installed

The number is the exit code of the command line. Every message says what was expected, what was found
and what to do.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class BitfitError(Exception):
    """Anything that bitfit refuses or cannot finish."""

    exit_code = 1


class RequestError(BitfitError):
    """What was asked cannot be: a method, term, layer, setting or option."""

    exit_code = 2


class BackboneError(BitfitError):
    """A model that is missing, unreadable or not the expected one."""

    exit_code = 3


class DataError(BitfitError):
    """Rows, columns or files that cannot be used; lists every problem found, not the first alone."""

    exit_code = 4

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))


class DeltaError(BitfitError):
    """A delta file that is damaged, foreign or made for another backbone."""

    exit_code = 5


class TrainingError(BitfitError):
    """A run that cannot go on."""

    exit_code = 6


class MissingExtraError(BitfitError):
    """An optional package that is not installed."""

    exit_code = 7

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'bitfit[{extra}]'"
        )


def nearest(wanted: str, known: Iterable[str]) -> str:
    """The end of an error message about a misspelt name: the nearest match, then the whole list."""
    names = list(known)
    small = {name.lower(): name for name in reversed(names)}
    close = get_close_matches(wanted.lower(), small, n=1, cutoff=0.5)
    hint = f"Did you mean '{small[close[0]]}'? " if close else ""
    return f"{hint}Known: {', '.join(names)}."
