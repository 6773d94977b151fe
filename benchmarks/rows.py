"""What many rows cost in one pass: the embedded model over the same tokens, shared by 1, 20, 256 and 1,024 rows.

    python -m benchmarks.rows [--precision fp32] [--dropout] [--rounds 9]

Each size takes its turn in each round, and the best round of each counts.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bitfit.backbone.heads import Head
from bitfit.backbone.load import Backbone, load
from bitfit.backbone.memory import keep_freed_memory
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.dropout import Draws
from bitfit.runtime.layout import Batch, Layout
from bitfit.runtime.precision import compute_format
from bitfit.runtime.row_model import RowModel

TOKENS = 4096
ROWS = (1, 20, 256, 1024)
HEAD = Head("class", 2)


class Trial:
    """A model with its biases and head as rows, and the passes to be timed."""

    def __init__(self, backbone: Backbone, method: str, compute: torch.dtype, dropout: bool) -> None:
        plain = backbone.task_model(HEAD)
        self.model = RowModel(backbone.task_model(HEAD), HEAD, compute)
        self.map = ThetaMap(with_whole_head(select(plain, method), plain), plain)
        self.dropout = dropout

    def batch(self, rows: int, sequences: int) -> Batch:
        """The same sequences whatever the number of rows."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1000, 20_000, (TOKENS,), generator=generator)
        share, more = divmod(sequences, rows)
        counts = tuple(share + (row < more) for row in range(rows))
        return Batch(ids, torch.zeros_like(ids), Layout((TOKENS // sequences,) * sequences, counts))

    def forward(self, batch: Batch, theta: Tensor) -> None:
        """Answers alone."""
        with torch.no_grad():
            self.model.answers(batch, self.map.tensors(theta))

    def both_ways(self, batch: Batch, theta: Tensor) -> None:
        """Answers and the gradient of every row."""
        theta = theta.requires_grad_()
        draws = Draws(list(range(len(theta)))) if self.dropout else None
        self.model.answers(batch, self.map.tensors(theta), draws).square().sum().backward()
        theta.grad = None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--method", default="bitfit")
    parser.add_argument("--dropout", action="store_true", help="on the way forward of what is learnt")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    keep_freed_memory()
    compute = compute_format(asked.precision)
    trial = Trial(load(), asked.method, compute, asked.dropout)
    print(f"{asked.method}, {compute}, {TOKENS:,} tokens, {torch.get_num_threads()} threads")
    print(f"{'sequences':>10}{'rows':>7}{'forward ms':>12}{'x':>7}{'both ms':>10}{'x':>7}")
    for sequences, sizes in ((256, ROWS[:3]), (1024, (1, 1024))):
        compare(trial, sequences, sizes, asked.rounds)


def compare(trial: Trial, sequences: int, sizes: tuple[int, ...], rounds: int) -> None:
    """Print a line for each number of rows that share these sequences."""
    batches = {rows: trial.batch(rows, sequences) for rows in sizes}
    starts = {rows: trial.map.start.repeat(rows, 1) for rows in sizes}
    forward = _best(lambda rows: trial.forward(batches[rows], starts[rows]), sizes, rounds)
    both = _best(lambda rows: trial.both_ways(batches[rows], starts[rows]), sizes, rounds)
    for rows in sizes:
        one, other = forward[rows] / forward[1], both[rows] / both[1]
        print(f"{sequences:>10}{rows:>7}{forward[rows]:>12.1f}{one:>7.2f}{both[rows]:>10.1f}{other:>7.2f}")


def _best(work: Callable[[int], None], sizes: tuple[int, ...], rounds: int) -> dict[int, float]:
    """Milliseconds of each size, the first round left out."""
    found: dict[int, list[float]] = {rows: [] for rows in sizes}
    for _ in range(rounds + 1):
        for rows in sizes:
            start = time.perf_counter()
            work(rows)
            found[rows].append(1000 * (time.perf_counter() - start))
    return {rows: min(times[1:]) for rows, times in found.items()}


if __name__ == "__main__":
    main()
