"""A chunk of rows: columns of values, where they came from, and what was wrong."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bitfit.errors import DataError

NOT_UTF8 = "not UTF-8: "  # begins the problem of a value that holds other bytes
NOTHING_AFTER = "nothing after it was read"  # ends the problem of a row after which the file cannot be told apart
MOST_SHOWN = 20  # problems listed in one error; the rest are counted
_IN_A_LINE = 3  # problems named in a note
_OF_A_ROW = re.compile(r", (row|sentence) [0-9]")


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of one file; rows count from 1, a header not counted."""

    source: str  # the file, for messages
    columns: Mapping[str, Sequence[Any]]
    first_row: int = 1
    row_numbers: Sequence[int] | None = None  # where they are not consecutive
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # stated by the file, by column
    problems: Sequence[str] = ()  # rows that could not be read at all

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def only(self, indices: Sequence[int]) -> "Chunk":
        """These of its rows, which know where they were."""
        numbers = self.row_numbers or range(self.first_row, self.first_row + len(self))
        columns = {name: [values[index] for index in indices] for name, values in self.columns.items()}
        return replace(self, columns=columns, row_numbers=[numbers[index] for index in indices])

    def where(self, index: int, column: str | None = None) -> str:
        """'train.csv, row 12, column 'text'' for the row at an index."""
        row = self.row_numbers[index] if self.row_numbers is not None else self.first_row + index
        return f"{self.source}, row {row:,}" + (f", column '{column}'" if column is not None else "")


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Consecutive parts of one file as one."""
    first = chunks[0]
    columns: dict[str, list[Any]] = {}
    rows = 0
    for chunk in chunks:
        for name in chunk.columns:
            columns.setdefault(name, [None] * rows)
        rows += len(chunk)
        for name, values in columns.items():
            values += chunk.columns.get(name, [None] * len(chunk))
    numbers = [
        number
        for chunk in chunks
        for number in (chunk.row_numbers or range(chunk.first_row, chunk.first_row + len(chunk)))
    ]
    problems = [problem for chunk in chunks for problem in chunk.problems]
    return Chunk(first.source, columns, first.first_row, numbers, first.label_names, problems)


def is_of_one_row(problem: str) -> bool:
    """Whether the rows beside it are sound; a missing column or another encoding is no matter of a row."""
    return bool(_OF_A_ROW.search(problem)) and NOT_UTF8 not in problem and not problem.endswith(NOTHING_AFTER)


def first_of(problems: Sequence[str]) -> str:
    """The first few of many, in one line."""
    more = f"; and {len(problems) - _IN_A_LINE:,} more" if len(problems) > _IN_A_LINE else ""
    return "; ".join(problems[:_IN_A_LINE]) + more


def refused(what: str, problems: Sequence[str], remedy: str = "") -> DataError:
    """One error for all problems; the first ones are listed, and a file's foreign encoding is one of them."""
    problems = _with_encoding_once(problems)
    listed = list(problems[:MOST_SHOWN])
    if len(problems) > MOST_SHOWN:
        listed.append(f"and {len(problems) - MOST_SHOWN:,} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
    return DataError(f"{what} cannot be used: {count} (rows count from 1, a header not counted).{remedy}", listed)


def shown(value: Any) -> str:
    """A value short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _with_encoding_once(problems: Sequence[str]) -> list[str]:
    """The same with one line in place of one for each value that is not UTF-8: they have one cause and one remedy."""
    foreign = [problem for problem in problems if NOT_UTF8 in problem]
    if not foreign:
        return list(problems)
    more = f"; {len(foreign) - 1:,} more of its values are not UTF-8" if len(foreign) > 1 else ""
    first = f"{foreign[0]}{more}. If the file is in another encoding, name it, as in `encoding='latin-1'`"
    return [first, *(problem for problem in problems if NOT_UTF8 not in problem)]
