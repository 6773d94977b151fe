"""A chunk of rows: columns of values, where they came from, and what was wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bitfit.errors import DataError

NOT_UTF8 = "not UTF-8: "  # begins the problem of a value that holds other bytes
MOST_SHOWN = 20  # problems listed in one error; the rest are counted


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


def refused(what: str, problems: Sequence[str]) -> DataError:
    """One error for all problems; the first ones are listed, and a file's foreign encoding is one of them."""
    problems = _with_encoding_once(problems)
    listed = list(problems[:MOST_SHOWN])
    if len(problems) > MOST_SHOWN:
        listed.append(f"and {len(problems) - MOST_SHOWN:,} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
    return DataError(f"{what} cannot be used: {count} (rows count from 1, a header not counted).", listed)


def shown(value: Any) -> str:
    """A value short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _with_encoding_once(problems: Sequence[str]) -> list[str]:
    """The same with one line in place of one for each value that is not UTF-8: they have one cause and one remedy."""
    foreign = [problem for problem in problems if NOT_UTF8 in problem]
    if not foreign:
        return list(problems)
    more = f", and so are {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
    first = (
        f"{foreign[0]}{more}. If the file is in another encoding, such as latin-1, save it as UTF-8: "
        "iconv -f latin1 -t utf-8 FILE > NEW"
    )
    return [first, *(problem for problem in problems if NOT_UTF8 not in problem)]
