"""What to do when memory runs out: smaller passes, the same batches."""

from collections.abc import Callable
from typing import TypeVar

from bitfit.backbone.memory import ran_out
from bitfit.errors import TrainingError

T = TypeVar("T")


class Budget:
    """How many tokens a pass may have. Where a pass does not fit into memory, the next ones get half as many."""

    def __init__(self, tokens: int, longest: int, say: Callable[[str], None]) -> None:
        self.tokens = tokens
        self.longest = longest  # tokens of the longest example: no pass can be smaller
        self.say = say

    def fit(self, action: Callable[[int], T]) -> T:
        """What `action` makes of the budget. It may be called again, with less, and must then start anew."""
        while True:
            try:
                return action(self.tokens)
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            # Outside the except block: the error holds on to the pass that failed, tensors and all.
            self._halve(reason)

    def _halve(self, reason: str) -> None:
        if self.tokens <= self.longest:
            raise TrainingError(
                f"Memory ran out in a pass over a single example of {self.longest} tokens ({reason}). Expected room "
                "for one. Lower `DataOptions(max_length=...)`, take a smaller model, or end other programs; nothing "
                "but seconds is lost."
            )
        self.tokens = max(self.longest, self.tokens // 2)
        self.say(f"Out of memory: from now on at most {self.tokens:,} tokens a pass; nothing else changes")
