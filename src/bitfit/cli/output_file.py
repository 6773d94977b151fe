"""What to do where a run's output file exists already, and how the file is written."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitfit.cli.output import in_order, log
from bitfit.errors import DeltaError, RequestError, TrainingError
from bitfit.files import part_beside

if TYPE_CHECKING:
    from bitfit.backbone.load import Backbone
    from bitfit.delta.delta import Delta
    from bitfit.training.checkpoint import Checkpoints
    from bitfit.training.run import Run

ENDING = ".safetensors"
MARKS = (
    "run",
    "data",
    "stopped",
    "diverged",
    "measured_on",
    "revision",
    "device",
    "baselines",
    "findings",
    "calibration",
    "validation",
    "history",
    "facts",
    "race",
    "tuned",
)  # in a delta's settings, beside those of the training


class OutputFile:
    """A run's hold on its file: what `asked` says is done, or is to be done, there."""

    def __init__(self, path: Path, checkpoints: "Checkpoints", asked: Mapping[str, Any]) -> None:
        self.path, self.checkpoints, self.asked = path, checkpoints, asked

    def maybe_get_finished(self, backbone: "Backbone", *, overwrite: bool, resume: bool) -> "Run | None":
        """The run whose file is there already, if it is the one asked for; another one's file is not overwritten."""
        if overwrite and self.checkpoints.exist:
            with self.checkpoints.alone():  # not those of a run that trains just now
                self.checkpoints.remove()
        if self.checkpoints.maybe_get_about() is not None:
            return None  # to be gone on from; another run's checkpoint is refused when it is opened
        delta = None if overwrite or not self.path.exists() else self._there()
        if delta is None:
            if resume:
                log().print(f"There is no checkpoint in {self.checkpoints.folder}: starting from the beginning.")
            return None
        log().print(f"{self.path} is finished: this command made it. Nothing is trained; --overwrite trains it anew.")
        return _as_run(delta, backbone)

    def refuse_checkpoints(self) -> None:
        """For what goes on from none: the run that left some would lose them."""
        if self.checkpoints.exist:
            raise RequestError(
                f"{self.checkpoints.folder} holds the checkpoint of a training that was stopped, and a tuning begins "
                "anew. Give that training's command to go on with it; --overwrite removes it; --out names another file."
            )

    def write(self, run: "Run", stopped: bool) -> None:
        """Write the file. The checkpoints go when the run is over, and stay for one that was stopped early."""
        try:
            run.delta.save(self.path)
        except DeltaError as error:
            raise TrainingError(
                f"{error} {self._what_is_left()} Make room (or the folder writable) and give the same command again."
            ) from error
        if not stopped:
            self.checkpoints.remove()
            return
        later = (
            "The same command goes on to the end." if self.checkpoints.exist else "It left no checkpoint to go on from."
        )
        log().print(f"Stopped early: {self.path} holds what was best so far. {later}")

    def alone(self) -> AbstractContextManager[None]:
        """While the block runs, no other process trains for this file. Where checkpoints are kept, they see to it."""
        return nullcontext() if self.checkpoints.every else self.checkpoints.alone()

    def _what_is_left(self) -> str:
        if not self.checkpoints.exist:
            return "What was trained is lost: there was no checkpoint."
        return f"Nothing is lost: what was trained is in {self.checkpoints.folder}, only the scoring is done once more."

    def _there(self) -> "Delta | None":
        """The finished delta of this very run; None for one that was stopped early."""
        from bitfit.delta.delta import Delta
        from bitfit.training.recipe import key

        remedy = "--overwrite replaces it; --out names another file."
        try:
            delta = Delta.load(self.path)
        except DeltaError:
            raise RequestError(f"{self.path} exists already and is no delta. {remedy}") from None
        if delta.settings.get("run") != key(self.asked):
            raise RequestError(f"{self.path} holds another run: {'; '.join(self._other(delta))}. {remedy}")
        return None if delta.settings.get("stopped") else delta

    def _other(self, delta: "Delta") -> list[str]:
        """What another run's file differs in, as far as the file tells."""
        from bitfit.training.checkpoint import differences

        rows = self.asked["rows"]
        settings = {name: value for name, value in delta.settings.items() if name not in MARKS}
        if "race" in delta.settings and "rates" in self.asked:  # the one that won is no setting
            settings["learning_rate"] = rows[0]["learning_rate"]
        theirs = {
            "model": f"{delta.backbone} ({delta.fingerprint})",
            "method": delta.method,
            "head": delta.head_mode,
            "task": delta.task.name,
            "data": delta.settings.get("data", self.asked["data"]),
            "settings": settings if settings not in rows else rows[0],
        }
        ours = {**self.asked, "task": self.asked["task"]["name"], "settings": rows[0]}
        if ("tuned" in delta.settings) != ("tune" in self.asked):
            return ["it was chosen by --tune" if "tuned" in delta.settings else "it was not chosen by --tune"]
        unlike = differences(theirs, {name: ours[name] for name in theirs})
        return unlike or ["it was one of another grid"]


def check_writable(path: Path, option: str = "--out") -> None:
    """Find out before the work, not after it, that a file cannot be written: by making one beside it."""
    if not path.parent.is_dir():
        raise RequestError(f"{option} is in a folder that does not exist: '{path.parent}'. Make it first.")
    if path.is_dir():
        raise RequestError(f"{option} names a file; '{path}' is a folder. Give {option} {path / ('NAME' + ENDING)}.")
    trial = part_beside(path)
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise RequestError(
            f"No file can be written to the folder of '{path}': {error.strerror}. Choose another {option}."
        ) from error


def check_new(path: Path, overwrite: bool, option: str = "--out") -> None:
    """The same, and refuse a file that exists already where nobody asked to replace it."""
    check_writable(path, option)
    if path.exists() and not overwrite:
        raise RequestError(f"'{path}' exists already. --overwrite replaces it; {option} names another file.")


def check_new_folder(folder: Path) -> None:
    """The same for a folder, which is never replaced: it may hold more than this program wrote."""
    if folder.exists():
        raise RequestError(f"'{folder}' exists already. A new folder is needed: choose another --out.")
    check_writable(folder)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """While the block runs, SIGTERM does what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_run(delta: "Delta", backbone: "Backbone") -> "Run":
    """What a file still knows of its run."""
    from bitfit.data.examples import measured_text
    from bitfit.inference.stored import stored_evaluation
    from bitfit.training.config import TrainConfig
    from bitfit.training.findings import Finding
    from bitfit.training.history import best_epoch_of, epochs_of
    from bitfit.training.run import Run

    return Run(
        delta=delta,
        config=TrainConfig.from_json(delta.settings),
        history=epochs_of(delta.settings),
        scores=in_order(delta.task, delta.scores),
        best_epoch=best_epoch_of(delta.settings),
        trainable=sum(slot.size for slot in delta.slots if not (slot.inert and slot.in_head)),
        parameters=sum(parameter.numel() for parameter in backbone.task_model(delta.task.head).parameters()),
        seconds=0.0,
        tokens_per_second=0.0,
        measured_on={name: measured_text(of) for name, of in delta.settings.get("measured_on", {}).items()},
        baselines=delta.settings.get("baselines", {}),
        findings=Finding.all_of(delta.settings),
        validation=stored_evaluation(delta),
    )
