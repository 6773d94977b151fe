"""Tunes a training within some minutes, by its score on validation.

One thing at a time changes of what is best so far: the learning rate, the epochs, what the head reads. A change that is
better becomes the best, which the next ones change; the tuning ends when none is left that is predicted to fit in the
time. The test split is read once, at the end.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from bitfit.backbone.heads import Pool
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.data.examples import TaskData, measured_json
from bitfit.data.options import DataOptions
from bitfit.errors import RequestError, TrainingError
from bitfit.inference.evaluate import evaluate
from bitfit.inference.task_data import Data, task_data
from bitfit.methods.method import Method
from bitfit.training.config import MOST_EPOCHS, TrainConfig
from bitfit.training.findings import data_findings
from bitfit.training.history import data_facts
from bitfit.training.recipe import Recipe, key
from bitfit.training.run import Run, best_run
from bitfit.training.train import train_rows
from bitfit.watcher import Watcher

Trial = tuple[Pool, float | None, int]  # what the head reads, the learning rate, the epochs


def tune(
    backbone: Backbone | str | Path,
    task: Data,
    method: str | Method = "bitfit",
    minutes: float = 10.0,
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    options: DataOptions | Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    baselines: bool = True,
) -> Run:
    """The best run on validation that some minutes find; a first one with the usual settings is made in any case.

    What `config` and `options` say stays as it is: a learning rate, epochs, a pooling. The run's delta keeps all
    trials. The score on validation is the best of several, and so a little too good: a test split tells how good it is.
    """
    if not 0 < minutes < float("inf"):
        raise RequestError(f"Expected minutes above 0 to tune in; found {minutes}.")
    given, of_data = TrainConfig.of(config), DataOptions.of(options)
    backbone, method, watcher = as_backbone(backbone), Method.of(method), Watcher.of(watcher)
    data = task_data(backbone, task, of_data)
    if "validation" not in data.splits:
        raise RequestError("Tuning chooses by the score on validation, and the task has no such split.")
    free = of_data.pool is None and given.few_shot != "on" and given.head_start != "probe"  # both need the mean
    tuning = _Tuning(backbone, data, method, given, watcher, minutes * 60, pools=free, began=time.monotonic())
    return _finished(tuning, tuning.best(baselines), tuning_asked(Recipe.of(backbone, data, method, [given]), minutes))


def tuning_asked(recipe: Recipe, minutes: float) -> dict[str, Any]:
    """What is asked of a tuning, as `Recipe.asked` says it of a training."""
    return {**recipe.asked(), "tune": minutes}


@dataclass
class _Tuning:
    """The trials so far."""

    backbone: Backbone
    data: TaskData
    method: Method
    given: TrainConfig
    watcher: Watcher
    seconds: float  # the budget
    pools: bool  # may what the head reads change?
    began: float
    trials: dict[Trial, float | None] = field(default_factory=dict)  # with their scores; None: it diverged
    an_epoch: float = 0.0  # seconds, by the first trial
    stopped: bool = False  # by the user, after the first trial
    rivals: Mapping[str, float] = field(default_factory=dict)  # by the first trial too

    @property
    def trial_data(self) -> TaskData:
        """What the trials may look at."""
        splits = {name: self.data.splits[name] for name in ("train", "validation")}
        return replace(self.data, splits=splits, notes=())

    def best(self, baselines: bool) -> Run:
        """The best run when time is over, or nothing is left to try. Ctrl-C ends it with the best so far."""
        pool = self.data.task.pool
        assert pool is not None
        for note in self.data.notes:
            self.watcher.note(note)
        began = time.monotonic()
        best = self._try(pool, self.given, baselines)
        self.rivals = best.baselines
        self.an_epoch = (time.monotonic() - began) / max(len(best.history), 1)
        while not best.stopped:
            following = next((one for one in self._changes(best) if self._fits(one)), None)
            if following is None:
                return best
            pool, rate, epochs = following
            try:
                run = self._try(pool, replace(self.given, learning_rate=rate, epochs=epochs), False)
            except TrainingError as error:
                self.trials[following] = None
                self.watcher.note(f"trial {len(self.trials)}: {_text(following)}: {error}")
                continue
            except KeyboardInterrupt:  # before its first step
                self.stopped = True
                return best
            if run.stopped:
                self.stopped = True
                return best
            best = (best, run)[best_run([best, run])]
        return best

    def _try(self, pool: Pool, config: TrainConfig, baselines: bool) -> Run:
        data = replace(self.trial_data, task=replace(self.data.task, pool=pool))
        run = train_rows(self.backbone, data, self.method, [config], watcher=self.watcher, baselines=baselines)[0]
        if not run.stopped:
            metric = run.delta.task.metric
            score = self.trials[_trial(run)] = run.scores["validation"][metric]
            self.watcher.note(f"trial {len(self.trials)}: {_text(_trial(run))}: validation {metric} {score:.4f}")
        return run

    def _changes(self, best: Run) -> Iterator[Trial]:
        """Trials that differ from the best in one thing and were not made yet, those that help most often first."""
        pool, rate, epochs = _trial(best)
        assert rate is not None
        rates = [2 * rate, rate / 2] if self.given.learning_rate is None else []
        whole_texts = best.delta.task.per_text
        pools = [one for one in get_args(Pool) if one != pool] if self.pools and whole_texts else []
        lengths = [min(2 * epochs, MOST_EPOCHS), max(epochs // 2, 1)] if self.given.epochs is None else []
        found: list[Trial] = [(pool, one, epochs) for one in rates]
        found += [(pool, rate, one) for one in lengths]
        found += [(one, rate, epochs) for one in pools]
        return (one for one in found if one not in self.trials)

    def _fits(self, trial: Trial) -> bool:
        """Is it predicted to end within the budget?"""
        return time.monotonic() - self.began + self.an_epoch * trial[2] <= self.seconds


def _trial(run: Run) -> Trial:
    pool, epochs = run.delta.task.pool, run.config.epochs
    assert pool is not None
    assert epochs is not None
    return pool, run.config.learning_rate, epochs


def _text(trial: Trial) -> str:
    pool, rate, epochs = trial
    return f"learning rate {rate:g}, {epochs} epochs, head on the {pool}"


def _finished(tuning: _Tuning, best: Run, asked: Mapping[str, Any]) -> Run:
    """The best run with the scores of further splits, and all trials in its delta."""
    data, best, stopped = tuning.data, best.beside(tuning.rivals), best.stopped or tuning.stopped
    scores, delta = {**best.scores}, best.delta
    for split in data.splits if not best.stopped else ():
        if split not in scores:
            scores[split] = evaluate(
                tuning.backbone, delta, data, split, precision=best.config.precision, device=best.config.device
            )
    measured = {split: data.measured_on[split] for split in scores if split in data.measured_on}
    names = ("pool", "learning_rate", "epochs", "validation")
    settings = {
        **delta.settings,
        "run": key(asked),
        "data": asked["data"],
        "measured_on": measured_json(measured),
        "facts": data_facts(data),
        **({"stopped": True} if stopped else {}),
        "tuned": [dict(zip(names, (*trial, score), strict=True)) for trial, score in tuning.trials.items()],
    }
    delta = replace(delta, scores=scores, settings=settings)
    run = replace(best, scores=scores, measured_on=measured, delta=delta, stopped=stopped)
    return run.noting(data_findings(data), instead_of=data_findings(tuning.trial_data))
