"""Shows how far a file is answered: a bar on a terminal, plain lines elsewhere; knows nothing of how it is done."""

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bitfit.cli.output import log
from bitfit.watcher import Watcher

LINE_EVERY_S = 15.0  # between plain lines


class Answering(Watcher):
    """A watcher for people. Use it as a context: the bar ends with it."""

    def __init__(self) -> None:
        self.console = log()
        columns = (
            TextColumn("answering"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} rows/s"),
        )
        self.bar = Progress(*columns, TimeRemainingColumn(), console=self.console)
        self.task: TaskID | None = None
        self.began = self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.task is not None:
            self.bar.stop()

    def answered(self, done: int, rows: int, before: int) -> None:
        now = time.monotonic()
        rate = (done - before) / max(now - self.began, 1e-9)
        if self.console.is_terminal:
            if self.task is None:
                self.task = self.bar.add_task("answering", total=rows, rate=0.0)
                self.bar.start()
            self.bar.update(self.task, completed=done, rate=rate)
        elif now - self.last_line > LINE_EVERY_S or done == rows:
            self.last_line = now
            left = (rows - done) / max(rate, 1e-9)
            self.console.print(f"{done:,} of {rows:,} rows  {rate:,.0f} rows/s  {left:,.0f} s left")

    def note(self, text: str) -> None:
        self.console.print(text)
