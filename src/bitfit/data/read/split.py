"""Draws splits and samples of rows by a seed.

Only the raw stream of a bit generator is used, which numpy promises never to change, so that a seed means
the same rows in every version.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SPLIT_SEED = 2022  # every part that bitfit holds out by itself; never the user's seed, so that runs compare
HELD_OUT = 0.1


def permutation(rows: int, seed: int) -> NDArray[np.int64]:
    """The numbers 0 to rows - 1, shuffled by the seed."""
    draws = np.random.PCG64(seed).random_raw(rows)
    return np.argsort(np.asarray(draws), kind="stable").astype(np.int64)


def shuffled(table: pa.Table, seed: int = SPLIT_SEED) -> pa.Table:
    """The same rows in an order drawn by the seed."""
    return table.take(permutation(table.num_rows, seed))


def sample(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """Rows drawn by the seed, kept in their order; a draw of more rows holds every draw of fewer."""
    return table.take(np.sort(permutation(table.num_rows, seed)[:rows]))


def hold_out(
    table: pa.Table, classes: NDArray[np.int64] | None = None, share: float = HELD_OUT
) -> tuple[pa.Table, pa.Table]:
    """What stays and what is held out; with classes, the same share of each (at least one row where two)."""
    order = permutation(table.num_rows, SPLIT_SEED)
    groups = np.zeros(table.num_rows, np.int64) if classes is None else classes
    held_out = np.zeros(table.num_rows, bool)
    for group in np.unique(groups):
        members = order[groups[order] == group]
        held_out[members[: _share(len(members), share)]] = True
    return table.filter(pa.array(~held_out)), table.filter(pa.array(held_out))


def held_out_note(validation: pa.Table, by_class: bool, what: str = "rows") -> str:
    """What is said of a validation split that `hold_out` made."""
    how = "of each class " if by_class else ""
    return f"validation: {validation.num_rows:,} {what}, {HELD_OUT:.0%} {how}held out of train by a fixed seed"


def _share(rows: int, share: float) -> int:
    return min(max(round(rows * share), 1), rows - 1)
