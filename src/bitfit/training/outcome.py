"""What came of a training: the scores of each row's best epoch, and its delta."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bitfit.data.examples import TaskData, measured_json
from bitfit.delta.delta import Delta
from bitfit.inference.calibration import fitted_temperature
from bitfit.inference.evaluation import Evaluation, ScoredRows, evaluation_of
from bitfit.inference.metrics import known_rows, score
from bitfit.inference.outputs import outputs
from bitfit.inference.stored import to_settings
from bitfit.inference.thresholds import scorable, thresholds_on
from bitfit.methods.method import Phase
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.precision import versions
from bitfit.training.build import Built
from bitfit.training.findings import (
    Finding,
    absent_labels,
    edge_findings,
    interval_findings,
    score_findings,
    unlikely_labels,
)
from bitfit.training.history import compact, data_facts
from bitfit.training.loop import Training
from bitfit.training.progress import Progress, rate_of
from bitfit.training.race import Race
from bitfit.training.recipe import ResumableRequest
from bitfit.training.run import Run

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The last phase of a training, and what the phases before it add."""

    built: Built
    phase: Phase
    training: Training
    request: ResumableRequest
    data: TaskData  # as the training read it
    seconds: float
    tokens: int
    history: tuple[Mapping[str, Any], ...] = ()  # of the phases before
    diverged: str | None = None  # in a phase before


def make_run(outcome: Outcome, group: Race) -> Run:
    """What became of one row, the winner among those that raced for its learning rate."""
    training = outcome.training
    row = group.winner(training.progress)
    state, best = training.progress[row], training.best[row]
    diverged = outcome.diverged or state.diverged
    stopped = training.stopped and not state.ended
    scores = _scores_of_best_epoch(state)
    rates = [rate_of(training.progress[one]) for one in group.rows]
    marks: dict[str, Any] = {"race": group.to_json(training.progress)} if len(rates) > 1 else {}
    findings: list[Finding] = []
    evaluated: Evaluation | None = None
    if not stopped and not diverged:
        try:
            answers = _validation_outputs(outcome, best)
            calibration = _calibration(outcome, answers)
            scores |= _further_scores(outcome, best, calibration.get("thresholds"))
            marks |= {"calibration": calibration} if calibration else {}
            evaluated = _evaluation(outcome, answers, calibration)
            if evaluated is not None:
                marks["validation"] = to_settings(evaluated)
            findings = _findings(outcome, row, answers, calibration, evaluated)
            findings += edge_findings(rates, rate_of(state))
        except KeyboardInterrupt:  # who presses Ctrl-C does not wait for a test
            stopped = True
    marks |= ({"stopped": True} if stopped else {}) | ({"diverged": diverged} if diverged else {})
    history = (*outcome.history, *state.history)
    marks |= {"history": compact(history, state.best_epoch), "facts": data_facts(outcome.data)}
    run = Run(
        delta=_delta(outcome, row, scores, marks),
        config=state.config,
        history=history,
        scores=scores,
        best_epoch=state.best_epoch,
        trainable=outcome.phase.selection.size,
        parameters=sum(parameter.numel() for parameter in outcome.built.plain.parameters()),
        seconds=outcome.seconds,
        tokens_per_second=outcome.tokens / max(outcome.seconds, 1e-9),
        stopped=stopped,
        diverged=diverged,
        measured_on=_measured(outcome, scores),
        validation=evaluated,
    )
    return run.noting(findings)


def slot_values(theta: ThetaMap, row: Tensor) -> dict[str, NDArray[np.float32]]:
    """A row cut into its slots, in the shape that a delta has them."""
    pieces = row.split(theta.sizes)
    return {
        slot.key: piece.reshape(slot.shape if slot.index is None else -1).cpu().numpy().copy()
        for slot, piece in zip(theta.slots, pieces, strict=True)
    }


def _scores_of_best_epoch(state: Progress) -> Scores:
    """Of training and validation, without the losses."""
    if not state.best_epoch:
        return {}
    epoch = state.history[state.best_epoch - 1]
    chosen = {
        split: {name: value for name, value in epoch[split].items() if name != "loss"}
        for split in ("train", "validation")
    }
    return {split: scores for split, scores in chosen.items() if scores}


def _further_scores(outcome: Outcome, best: Tensor, thresholds: Sequence[float] | None) -> Scores:
    """Those of every further split, which is read here for the first time."""
    scores: Scores = {}
    values = outcome.phase.theta.tensors(best[None])
    for split, examples in outcome.data.splits.items():
        if split not in ("train", "validation"):
            results = outcome.training.budget.fit(partial(outputs, outcome.built.model, values, examples, 1))
            task = outcome.data.task
            scores[split] = score(task, examples, scorable(task, results[0].values, thresholds))
    return scores


def _validation_outputs(outcome: Outcome, best: Tensor) -> NDArray[Any] | None:
    """Of what answers whole texts. The split is answered again: a run that was killed and goes on has no outputs of
    an epoch before."""
    validation = outcome.data.splits.get("validation")
    if not outcome.data.task.per_text or validation is None:
        return None
    values = outcome.phase.theta.tensors(best[None])
    return outcome.training.budget.fit(partial(outputs, outcome.built.model, values, validation, 1))[0].values


def _calibration(outcome: Outcome, answers: NDArray[Any] | None) -> dict[str, Any]:
    """The temperature, or the thresholds of labels, that suit the validation split."""
    task = outcome.data.task
    if task.kind == "number" or answers is None:
        return {}
    validation = outcome.data.splits["validation"]
    if task.kind == "labels":
        return {"thresholds": list(thresholds_on(task, validation, answers) or ())}
    known = known_rows(task, validation)
    temperature = fitted_temperature(answers[known], np.asarray(validation.labels)[known])
    return {"temperature": temperature}


def _evaluation(outcome: Outcome, answers: NDArray[Any] | None, calibration: Mapping[str, Any]) -> Evaluation | None:
    """What the answers on validation are worth."""
    if answers is None:
        return None
    validation = outcome.data.splits["validation"]
    measured_on = outcome.data.measured_on.get("validation", f"{len(validation):,}")
    thresholds = calibration.get("thresholds")
    scored = ScoredRows(outcome.data.task, "validation", validation, answers, measured_on, thresholds=thresholds)
    return evaluation_of(scored, calibration.get("temperature"))


def _findings(
    outcome: Outcome,
    row: int,
    answers: NDArray[Any] | None,
    calibration: Mapping[str, Any],
    evaluated: Evaluation | None,
) -> list[Finding]:
    """What the row's epochs and its answers on validation tell."""
    if answers is None or evaluated is None:
        return []
    task, state = outcome.data.task, outcome.training.progress[row]
    validation = outcome.data.splits["validation"]
    scored = scorable(task, answers, calibration.get("thresholds"))
    found = score_findings(task, state.config, state.history, validation, scored)
    found += interval_findings(task, len(validation), evaluated.interval)
    if evaluated.calibration is not None:
        found += unlikely_labels(task, validation, answers, evaluated.calibration.temperature or 1.0)
    if task.kind == "labels":
        found += absent_labels(task, validation, answers)
    return found


def _measured(outcome: Outcome, scores: Mapping[str, Any]) -> dict[str, str]:
    """On how many rows each split was scored, as the data says it."""
    measured_on = outcome.data.measured_on
    return {split: measured_on[split] for split in scores if split in measured_on}


def _delta(outcome: Outcome, row: int, scores: Scores, marks: Mapping[str, Any]) -> Delta:
    """The file's content. Its settings say which request it answers, and if it ended before its end."""
    recipe, request, theta = outcome.built.recipe, outcome.request, outcome.phase.theta
    device = outcome.built.model.device.type
    asked: dict[str, Any] = {
        "run": request.key,
        "data": dict(request.asked["data"]),
        "measured_on": measured_json(_measured(outcome, scores)),
        **({} if recipe.backbone.revision is None else {"revision": recipe.backbone.revision}),
        **marks,
        **({"device": device} if device != "cpu" else {}),
    }
    return Delta(
        backbone=recipe.backbone.name,
        fingerprint=recipe.backbone.fingerprint,
        method=recipe.method.name,
        head_mode=recipe.method.head,
        slots=theta.slots,
        values=slot_values(theta, outcome.training.best[row]),
        task=outcome.data.task,
        scores=scores,
        settings={**outcome.training.progress[row].config.to_json(), **asked},
        versions=versions(),
    )
