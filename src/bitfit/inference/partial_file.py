"""A large result written in parts, which survive a kill, and shown only when whole.

The folder OUT.partial holds the parts and `job.json` with the settings that they belong to.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bitfit.errors import RequestError
from bitfit.files import clear_parts, lock_file, write_whole, writing_whole

JOB = "job.json"


class PartialFile:
    """The parts of one result, while this process makes them. Use it as a context: it holds the folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out.with_name(out.name + ".partial")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock = lock_file(self.folder / "lock")
        except BlockingIOError:
            raise RequestError(f"Another process is making '{out}': wait for it, or choose another --out.") from None
        clear_parts(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder.is_dir() and not any(path.name.isdigit() for path in self.folder.iterdir()):
            shutil.rmtree(self.folder, ignore_errors=True)  # it never came to a first part
        self.lock.close()

    def maybe_get_job(self) -> dict[str, Any] | None:
        """What the parts are of, if there are any."""
        try:
            job = json.loads((self.folder / JOB).read_text())
        except (OSError, ValueError):
            return None
        return job if isinstance(job, dict) else None

    def begin(self, job: Mapping[str, Any]) -> None:
        """Forget all parts; those made from now on are of this job."""
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()
        write_whole(self.folder / JOB, [json.dumps(job, indent=2).encode()])

    def path(self, number: int) -> Path:
        """Where a part is, counted from 0."""
        return self.folder / f"{number:08d}"

    def put(self, number: int, content: bytes) -> None:
        """Keep a part, whole or not at all."""
        write_whole(self.path(number), [content])

    def join(self, parts: int, join: Callable[[Sequence[Path], IO[bytes]], None]) -> None:
        """Make the whole of its parts, put it in its place, and forget the parts."""
        with writing_whole(self.out, self.folder) as file:
            join([self.path(number) for number in range(parts)], file)
        shutil.rmtree(self.folder, ignore_errors=True)
