"""Rows as a file gave them: columns of values, where they came from, what was wrong; knows no format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bitfit.errors import DataError

MOST_SHOWN = 20  # problems listed in one error; the rest are counted


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive rows of one file; rows count from 1, a header not counted."""

    place: str  # the file, for messages
    columns: Mapping[str, Sequence[Any]]
    first_row: int = 1
    row_numbers: Sequence[int] | None = None  # where they are not consecutive
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # stated by the file, by column
    problems: Sequence[str] = ()  # rows that could not be read at all

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def where(self, index: int, column: str | None = None) -> str:
        """'train.csv, row 12, column 'text'' for the row at an index."""
        row = self.row_numbers[index] if self.row_numbers is not None else self.first_row + index
        return f"{self.place}, row {row:,}" + (f", column '{column}'" if column is not None else "")


def joined(parts: Sequence[Part]) -> Part:
    """Consecutive parts of one file as one."""
    first = parts[0]
    columns: dict[str, list[Any]] = {}
    rows = 0
    for part in parts:
        for name in part.columns:
            columns.setdefault(name, [None] * rows)
        rows += len(part)
        for name, values in columns.items():
            values += part.columns.get(name, [None] * len(part))
    numbers = [
        number for part in parts for number in (part.row_numbers or range(part.first_row, part.first_row + len(part)))
    ]
    problems = [problem for part in parts for problem in part.problems]
    return Part(first.place, columns, first.first_row, numbers, first.label_names, problems)


def refused(what: str, problems: Sequence[str]) -> DataError:
    """One error for all problems; the first ones are listed."""
    listed = list(problems[:MOST_SHOWN])
    if len(problems) > MOST_SHOWN:
        listed.append(f"and {len(problems) - MOST_SHOWN:,} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
    return DataError(f"{what} cannot be used: {count} (rows count from 1, a header not counted).", listed)


def shown(value: Any) -> str:
    """A value short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
