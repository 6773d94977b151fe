"""What the rows answered to their training examples in an epoch, kept where the model runs until it is scored."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.backbone.device import placed
from bitfit.data.examples import Examples
from bitfit.data.task import Task
from bitfit.inference.metrics import score
from bitfit.runtime.layout import Layout


class TrainScores:
    """The choice for each example (or token), or the number. Spans would need too much room: they have none."""

    def __init__(self, task: Task, examples: Examples, rows: int, device: torch.device) -> None:
        self.task, self.examples, self.device = task, examples, device
        many = int(examples.offsets[-1]) if task.kind == "tags" else len(examples)
        form = torch.float32 if task.kind == "number" else torch.int16
        kept = 0 if task.kind == "span" else rows
        self.values = [torch.zeros(many, dtype=form, device=device) for _ in range(kept)]

    def note(self, rows: Sequence[int], parts: Sequence[NDArray[np.int64]], answers: Tensor, layout: Layout) -> None:
        """Remember a pass: the rows in it, the examples of each, and what the model answered to them all."""
        if not self.values:
            return
        kind, found = self.task.kind, answers.detach()
        found = found[:, 0].float() if kind == "number" else found.argmax(-1).to(torch.int16)
        bounds = (layout.tokens if kind == "tags" else layout.sequences).bounds
        for row, which, start, stop in zip(rows, parts, bounds, bounds[1:], strict=False):
            places = _token_places(self.examples, which) if kind == "tags" else which
            self.values[row].index_copy_(0, placed(torch.tensor(places), self.device), found[start:stop])

    def scores(self, row: int) -> dict[str, float]:
        """The row's scores over the epoch, as it answered while it trained (dropout on)."""
        if not self.values:
            return {}
        found = self.values[row].cpu().numpy()
        if self.task.kind == "class":
            found = np.eye(len(self.task.labels), dtype=np.float32)[found]
        return score(self.task, self.examples, found)

    def state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Those of these rows, by name; not copied."""
        return {f"chosen.{row}": self.values[row] for row in rows if self.values}

    def restore(self, rows: Sequence[int], state: Mapping[str, Tensor]) -> None:
        """Be as `state` was."""
        for row in rows if self.values else ():
            self.values[row] = state[f"chosen.{row}"]


def _token_places(examples: Examples, which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the tokens of these examples stand in their split."""
    return np.concatenate([np.arange(examples.offsets[i], examples.offsets[i + 1]) for i in which])
