"""Times steps and watches the process's memory."""

import ctypes
import gc
import platform
import time
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """Told of each step's end. Memory counts from `ready`, which is called when the backbone is loaded."""

    def __init__(self, left_out: int) -> None:
        self.left_out = left_out
        self.first = 0.0  # time.monotonic() at the end of the first step
        self.steady: list[tuple[float, int]] = []  # (seconds, tokens so far) at each step's end, from the last left out
        self.runs: list[tuple[float, int, int]] = []  # of finished runs: seconds, tokens, steps
        self.base = self.peak = 0  # bytes

    def ready(self) -> None:
        """Memory from here on is the training's."""
        give_back_memory()
        if platform.system() == "Linux":
            CLEAR.write_text("5")  # the peak starts again from what is held now
            self.base = self.peak = _status("VmRSS")

    def step(self, step: int, tokens: int) -> None:
        """A step of the run under way has ended, counted from 1; `tokens` real ones were read so far."""
        now = time.monotonic()
        self.first = self.first or now
        if step >= self.left_out:
            self.steady.append((now, tokens))
        if self.base:
            self.peak = _status("VmHWM")

    def end_run(self) -> None:
        """The steps that follow are another run's."""
        (start, tokens), (end, last) = self.steady[0], self.steady[-1]
        self.runs.append((end - start, last - tokens, len(self.steady) - 1))
        self.steady = []

    def found(self, started: float, reading: float) -> dict[str, Any]:
        """The figures; `reading` seconds of the time since `started` went into the data."""
        seconds, tokens, steps = (sum(run[i] for run in self.runs) for i in range(3))
        return {
            "tokens_per_second": tokens / seconds,
            "steady_steps": steps,
            "steady_seconds": seconds,
            "runs_measured": len(self.runs),
            "peak_mib": (self.peak - self.base) / 2**20 if self.base else None,
            "first_step_seconds": self.first - started - reading,
        }


def give_back_memory() -> None:
    """What loading left unused goes back to the system, so that training cannot hide in it."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    """Bytes that the system reports of this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
