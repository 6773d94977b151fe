"""Shows progress: a bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bitfit.cli.output import log
from bitfit.cli.wording import in_shell
from bitfit.watcher import Watcher

LINE_EVERY_S = 15.0  # between plain lines
SMOOTHING = 0.95  # share of the old value in the shown loss


class Shown(Watcher):
    """A watcher for people. Use it as a context: the bar ends with it."""

    def __init__(self, measured_on: str = "") -> None:
        self.measured_on = measured_on  # rows of validation, where needed of how many: "7,469 of 9,815"
        self.console = log()
        self.terminal = self.console.is_terminal
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[metric]}  {task.fields[rate]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task: TaskID | None = None
        self.steps, self.rows, self.loss, self.metric = 0, 1, math.nan, ""
        self.began = self.last_line = 0.0
        self.before = (0, 0)  # steps and tokens of the process that was killed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.task is not None:
            self.bar.stop()

    def started(self, steps: int, rows: int) -> None:
        self.steps, self.rows, self.loss, self.before = steps, rows, math.nan, (0, 0)
        if self.task is not None:  # of a stage or a trial that is over
            self.bar.remove_task(self.task)
        self.began = self.last_line = time.monotonic()
        if self.terminal:
            self.task = self.bar.add_task("training", total=steps, loss=math.nan, metric="", rate=0.0)
            self.bar.start()

    def resumed(self, step: int, tokens: int) -> None:
        self.before = (step, tokens)
        self.console.print(f"going on from step {step:,} of {self.steps:,}")

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        self.loss = loss if math.isnan(self.loss) else SMOOTHING * self.loss + (1 - SMOOTHING) * loss
        now = time.monotonic()
        rate = (tokens - self.before[1]) / max(now - self.began, 1e-9)
        if self.task is not None:
            self.bar.update(self.task, completed=step, loss=self.loss, metric=self.metric, rate=rate)
        elif now - self.last_line > LINE_EVERY_S:
            self.last_line = now
            left = (now - self.began) * (self.steps - step) / max(step - self.before[0], 1)
            self.console.print(
                f"step {step:,} of {self.steps:,}  loss {self.loss:.4f}  {rate:,.0f} tokens/s  {left:,.0f} s left"
            )

    def evaluated(self, row: int, epoch: int, scores: Mapping[str, float]) -> None:
        self.metric = next((f"{name} {value:.4f}" for name, value in scores.items() if name != "loss"), "")
        which = f"row {row + 1}, " if self.rows > 1 else ""
        text = "  ".join(f"{metric} {score:.4f}" for metric, score in scores.items())
        of = f" ({self.measured_on}):" if self.measured_on else ""
        if scores:  # there are none without validation, and before there is a head
            self.console.print(f"{which}epoch {epoch}: validation{of} {text}")

    def note(self, text: str) -> None:
        self.console.print(in_shell(text))


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
        self.console.print(in_shell(text))
