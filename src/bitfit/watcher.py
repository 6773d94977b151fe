"""What a run tells whoever watches it."""

from collections.abc import Mapping

from bitfit.errors import RequestError


class Watcher:
    """Hears of a run's progress. This one ignores it all: override what is of interest."""

    @staticmethod
    def of(given: "Watcher | None") -> "Watcher":
        """A watcher as it is, or one that ignores it all."""
        if not isinstance(given, Watcher | None):
            raise RequestError(f"Expected a bitfit.Watcher; found {given!r:.80}. Make a class of yours from it.")
        return given or Watcher()

    def started(self, steps: int, rows: int) -> None:
        """Before the first step of `steps`; of so many runs, each of which becomes one row in the end."""

    def resumed(self, step: int, tokens: int) -> None:
        """After `started`, where a checkpoint is gone on from: so many steps and tokens are done already."""

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        """After each step; `tokens` real ones were read so far, `loss` is the mean over rows."""

    def evaluated(self, row: int, epoch: int, scores: Mapping[str, float]) -> None:
        """A row's validation scores after an epoch, counted from 1."""

    def answered(self, done: int, rows: int, before: int) -> None:
        """So many rows of a file are answered, `before` of them by an earlier process."""

    def note(self, text: str) -> None:
        """Something the user should know."""
