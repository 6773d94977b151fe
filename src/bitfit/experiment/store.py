"""A folder of results: the plan, a file for each run, and facts about the data."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitfit.errors import DataError, RequestError, TrainingError
from bitfit.experiment.plan import Cell, Plan, PlannedRun
from bitfit.experiment.plan_file import read_plan
from bitfit.files import clear_parts, write_whole
from bitfit.training.checkpoint import Checkpoints, differences
from bitfit.training.recipe import key

Document = Mapping[str, Any]  # a run's file: Run.to_json and what the runner knows beside it


@dataclass(frozen=True)
class SplitFacts:
    """What a score on a split is compared with."""

    examples: int  # tags: labelled words
    largest_class: float | None = None  # its share: what a constant answer scores; None where there are no classes


@dataclass(frozen=True)
class Store:
    """Where a plan's results are."""

    folder: Path

    @property
    def plan_path(self) -> Path:
        """The plan that the results are of."""
        return self.folder / "plan.toml"

    @property
    def splits_path(self) -> Path:
        """Facts about the splits of each task, by its label."""
        return self.folder / "splits.json"

    def open(self, plan: Plan) -> None:
        """Make the folders, and lay the plan beside its results."""
        try:
            self._folder("runs").mkdir(parents=True, exist_ok=True)
            clear_parts(self._folder("runs"))
            if plan.source and not (self.plan_path.exists() and self.plan_path.read_text("utf-8") == plan.source):
                write_whole(self.plan_path, [plan.source.encode()])
        except OSError as error:
            raise TrainingError(f"Results cannot be kept in '{self.folder}': {error.strerror}.") from error

    def plan(self) -> Plan:
        """The plan that lies beside the results."""
        if not self.plan_path.is_file():
            raise RequestError(
                f"There is no plan.toml in '{self.folder}'. Expected a folder that `bitfit experiment run` wrote."
            )
        return read_plan(self.plan_path)

    def maybe_get(self, run: PlannedRun) -> Document | None:
        """A run's file, if it is there; one that answers another request is refused."""
        path = self._path(run)
        if not path.exists():
            return None
        try:
            document: Document = json.loads(path.read_text(encoding="utf-8"))
            asked = document["asked"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}). Remove it, and the run is done again.") from error
        wrong = differences(asked, run.asked)
        if wrong:
            raise RequestError(
                f"{path} is of another plan: {'; '.join(wrong)} (there: the file, here: the plan). Choose another "
                "folder, or remove the file, and the run is done again."
            )
        return document

    def documents(self, cell: Cell) -> list[Document]:
        """The files of a cell that are there, in the plan's order."""
        stored = (self.maybe_get(run) for run in cell.runs)
        return [document for document in stored if document is not None]

    def put(self, run: PlannedRun, document: Document) -> None:
        """Write a run's file."""
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(self._path(run), [text.encode(), b"\n"])

    def splits(self) -> dict[str, dict[str, SplitFacts]]:
        """Facts about the splits of each task, by its label; nothing where no run has written them."""
        if not self.splits_path.exists():
            return {}
        try:
            document = json.loads(self.splits_path.read_text(encoding="utf-8"))
            return {
                task: {split: SplitFacts(**facts) for split, facts in splits.items()}
                for task, splits in document.items()
            }
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{self.splits_path} is damaged ({error}). Remove it; a run writes it again.") from error

    def put_splits(self, task: str, splits: Mapping[str, SplitFacts]) -> None:
        """Write the facts about one task's splits beside those of the others."""
        known = self.splits()
        if known.get(task) == splits:
            return
        document = {label: {name: asdict(facts) for name, facts in one.items()} for label, one in known.items()}
        document[task] = {name: asdict(facts) for name, facts in splits.items()}
        write_whole(self.splits_path, [json.dumps(document, indent=1).encode(), b"\n"])

    def delta_path(self, run: PlannedRun) -> Path:
        """Where a run's delta is, if it is kept."""
        return self._folder("deltas") / f"{run.name}.safetensors"

    def checkpoints(self, cell: Cell, runs: list[PlannedRun]) -> Checkpoints:
        """The folder for the checkpoints of runs that train together; changed settings have another one."""
        name = key({"runs": [run.asked for run in runs]})
        return Checkpoints(self._folder("under-way") / cell.name / name)

    def clear(self, cell: Cell, keep_deltas: bool) -> None:
        """A cell is done: what only its own runs needed goes."""
        shutil.rmtree(self._folder("under-way") / cell.name, ignore_errors=True)
        if not keep_deltas:
            for run in cell.runs:
                self.delta_path(run).unlink(missing_ok=True)
        for name in ("under-way", "deltas"):
            folder = self._folder(name)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _path(self, run: PlannedRun) -> Path:
        return self._folder("runs") / f"{run.name}.json"

    def _folder(self, name: str) -> Path:
        return self.folder / name
