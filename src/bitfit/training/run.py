"""What a training did: history, scores, settings, environment, and the delta."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bitfit.data.examples import measured_json
from bitfit.data.task import better
from bitfit.delta.delta import Delta
from bitfit.errors import RequestError, TrainingError
from bitfit.inference.calibration import Threshold
from bitfit.inference.evaluation import Evaluation
from bitfit.runtime.precision import environment
from bitfit.training.baselines import comparison
from bitfit.training.config import TrainConfig
from bitfit.training.findings import Finding, baseline_findings, in_order


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """One trained row."""

    delta: Delta
    config: TrainConfig
    history: tuple[Mapping[str, Any], ...]  # for each epoch: epoch, step, train and validation loss and scores
    scores: Mapping[str, Mapping[str, float]]  # split -> metric -> 0..1, of the best epoch
    best_epoch: int  # counted from 1; 0 where no epoch was finished
    trainable: int
    parameters: int
    seconds: float  # of training steps; for rows trained together, of all of them
    tokens_per_second: float  # real tokens
    stopped: bool = False  # by the user, before its end
    diverged: str | None = None  # why it ended, where a loss was no longer finite; the delta is of an epoch before
    measured_on: Mapping[str, str] = field(default_factory=dict)  # split -> rows, where needed of how many
    baselines: Mapping[str, float] = field(default_factory=dict)  # rival -> its main score on validation
    findings: tuple[Finding, ...] = ()  # what it noticed about its data, scores and settings; warnings first
    validation: Evaluation | None = None  # of the best epoch; None for tags and spans, and for a run that was stopped

    def __repr__(self) -> str:
        metric = self.delta.task.metric
        scores = ", ".join(f"{split} {metric} {metrics[metric]:.4f}" for split, metrics in self.scores.items())
        ended = ", diverged" if self.diverged else ", stopped" if self.stopped else ""
        return f"Run({self.delta.method!r} on {self.delta.task.name!r}: {scores or 'no scores'}{ended})"

    @property
    def comparison(self) -> str:
        """The main score on validation beside the baselines', in a line; empty without them."""
        own = self._validation_score
        return (
            comparison(self.delta.task, self.delta.method, own, self.baselines)
            if self.baselines and own is not None
            else ""
        )

    @property
    def _validation_score(self) -> float | None:
        return self.scores.get("validation", {}).get(self.delta.task.metric)

    def beside(self, baselines: Mapping[str, float]) -> "Run":
        """The same run with its baselines, which its delta keeps."""
        if not baselines:
            return self
        run = replace(self, baselines=baselines, delta=_with_setting(self.delta, "baselines", dict(baselines)))
        return run.noting(baseline_findings(self.delta.task, self.delta.method, self._validation_score, baselines))

    def noting(self, findings: Iterable[Finding], instead_of: Iterable[Finding] = ()) -> "Run":
        """The same run with further findings, or with others in place of some; its delta keeps them."""
        gone = set(instead_of)
        together = in_order([*(one for one in self.findings if one not in gone), *findings])
        if together == self.findings:
            return self
        delta = _with_setting(self.delta, "findings", [one.to_json() for one in together])
        return replace(self, findings=together, delta=delta)

    def unsure_below(self, threshold: Threshold) -> "Run":
        """The same run, whose delta is unsure below this threshold; it never is where no confidence was enough."""
        if threshold.confidence is None:  # that it was asked for is noted all the same
            calibration = {**self.delta.settings.get("calibration", {}), "precision": threshold.precision}
            return replace(self, delta=_with_setting(self.delta, "calibration", calibration))
        return replace(self, delta=self.delta.with_threshold(threshold.confidence, threshold.precision))

    def to_json(self) -> dict[str, Any]:
        """The run as plain values, without the delta's tensors."""
        return {
            "task": self.delta.task.name,
            "method": self.delta.method,
            "head": self.delta.head_mode,
            "backbone": self.delta.backbone,
            "trainable": self.trainable,
            "parameters": self.parameters,
            "scores": {split: dict(scores) for split, scores in self.scores.items()},
            "measured_on": measured_json(self.measured_on),
            "baselines": dict(self.baselines),
            "findings": [one.to_json() for one in self.findings],
            "best_epoch": self.best_epoch,
            "history": [dict(epoch) for epoch in self.history],
            "settings": self.config.to_json(),
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "stopped": self.stopped,
            "diverged": self.diverged,
            "environment": environment(),
        }


def _with_setting(delta: Delta, name: str, value: Any) -> Delta:
    return replace(delta, settings={**delta.settings, name: value})


def best_run(runs: Sequence[Run]) -> int:
    """The number of the run with the best validation score, the first where there is none. One that diverged is never
    the best, whatever it scored before."""
    if not runs:
        raise RequestError("There is no run to choose from: expected one or more, as train_rows gives them.")
    whole = [number for number, run in enumerate(runs) if not run.diverged]
    if not whole:
        raise TrainingError("Every run diverged: none is the best.")
    metric, best = runs[0].delta.task.metric, whole[0]
    for number in whole:
        now, then = (run.scores.get("validation", {}).get(metric) for run in (runs[number], runs[best]))
        if now is not None and (then is None or better(metric, now, then)):
            best = number
    return best
