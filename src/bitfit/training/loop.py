"""The only training loop: many rows over one frozen backbone, each with its own settings.

`Training.run` is the loop and `Training.step` the step; read those two first.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.backbone.device import to_device
from bitfit.data.examples import Examples, TaskData
from bitfit.errors import RequestError
from bitfit.inference.metrics import score
from bitfit.inference.outputs import batch_of, labels_of, losses, outputs, pass_tokens
from bitfit.inference.pass_budget import Budget
from bitfit.inference.thresholds import at_best
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.dropout import draws_on
from bitfit.runtime.layout import Batch
from bitfit.runtime.row_model import RowModel
from bitfit.training import order
from bitfit.training.balance import weights_of_rows
from bitfit.training.checkpoint import CheckpointWriter, State
from bitfit.training.config import TrainConfig, factor
from bitfit.training.optimizer import RowAdamW
from bitfit.training.progress import (
    Progress,
    Shares,
    StepLosses,
    TrainScores,
    diverged_in_training,
    diverged_in_validation,
    rate_of,
)
from bitfit.training.race import Race, runs_of
from bitfit.watcher import Watcher


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be trained, on what, how."""

    model: RowModel
    theta_map: ThetaMap
    data: TaskData
    configs: tuple[TrainConfig, ...]  # one for each row, learning rates settled
    start: Tensor  # (rows, P); the training takes it over
    races: tuple[Race, ...] = ()  # of rows that differ in their learning rate alone


class Training:
    """A job under way. With a writer it writes checkpoints, and goes on from the last one."""

    def __init__(self, job: Job, watcher: Watcher, writer: CheckpointWriter | None = None) -> None:
        self.job, self.watcher, self.writer = job, watcher, writer
        self.train: Examples = job.data.splits["train"]
        self.validation = job.data.splits.get("validation")
        self.orders = [order.RowOrder(c.seed, len(self.train), c.batch_size) for c in job.configs]
        self.an_epoch = [rows_order.steps_an_epoch for rows_order in self.orders]
        self.progress = [Progress.of(c, n) for c, n in zip(job.configs, self.an_epoch, strict=True)]
        self.active = list(range(len(job.configs)))  # numbers of the rows that still train
        self.race_of = {row: race for race in job.races for row in race.rows}
        self.run_of = runs_of(len(job.configs), job.races)  # as the watcher counts: rows that race are one
        self.theta = job.start.clone().requires_grad_()
        self.optimizer = RowAdamW(self.theta.data, job.theta_map.decays(), job.theta_map.rates())
        self.draws = draws_on(job.model.device, [[c.seed, order.DROPOUT] for c in job.configs])
        self.best = job.start
        self.chosen = TrainScores(job.data.task, self.train, len(job.configs), job.model.device)
        self.class_weights = weights_of_rows(job.configs, job.data, job.model.device)
        self.budget = Budget(pass_tokens(job.model), int(self.train.lengths.max()), watcher.note)
        self.tokens = 0  # real ones, read in training
        self.seconds = 0.0  # in steps, without evaluation
        self.stopped = False  # by the user
        self.unread: list[StepLosses] = []  # of the last steps
        self.behind = 0 if job.model.device.type == "cpu" else 1  # steps that the host may be ahead of their losses

    def run(self) -> None:
        """Train every row to its end. Ctrl-C ends it early with what was best so far."""
        self.watcher.started(max(p.steps for p in self.progress), self.run_of[-1] + 1)
        self._resume()
        try:
            self.finish_epochs()  # a checkpoint may stand between a step and its scores
            while self.active:
                self.step()
                self._checkpoint()
                self.finish_epochs()
            if not all(state.diverged for state in self.progress):  # then there is nothing to go on to
                self._checkpoint(last=True)
        except KeyboardInterrupt:
            self.stopped = True
            self._take_unscored_as_best()

    def step(self) -> None:
        """One optimizer step of every active row. On a GPU the host waits for nothing but the step before."""
        start = time.perf_counter()
        states = [self.progress[row] for row in self.active]
        shares = self._gradients()
        self.unread.append(StepLosses(self.active, [state.step for state in states], self.tokens, shares))
        self.optimizer.step(
            _taken(self.theta),
            [rate_of(state) * factor(state.config, state.step, state.steps) for state in states],
            [state.config.clip for state in states],
            [state.config.weight_decay for state in states],
        )
        for state in states:
            state.step += 1
        self.seconds += time.perf_counter() - start
        self.read_losses(self.behind)

    def read_losses(self, behind: int = 0) -> None:
        """Those of all steps but the last `behind`: added up and told to the watcher. A row with one that is not finite
        leaves the batch."""
        while len(self.unread) > behind:
            start = time.perf_counter()
            step = self.unread.pop(0)
            means = step.read()
            self.seconds += time.perf_counter() - start
            for row, before, loss in zip(step.rows, step.steps, means, strict=True):
                if math.isfinite(loss):
                    self.progress[row].loss_sum += loss
                    if row in self.race_of:
                        self.race_of[row].note(self.progress[row], loss)
                else:
                    self._diverge(row, diverged_in_training(self.progress[row], before, loss))
            finite = [loss for loss in means if math.isfinite(loss)]
            self.watcher.stepped(max(step.steps) + 1, math.fsum(finite) / max(len(finite), 1), step.tokens)
            self._end_races()
        self._leave()

    def finish_epochs(self) -> None:
        """Score the rows that have just seen all their data; rows at their end leave the batch."""
        states = self.progress
        done = [row for row in self.active if states[row].step == (states[row].epoch + 1) * self.an_epoch[row]]
        if not done:
            return
        self.read_losses()
        done = [row for row in done if row in self.active]
        for row, scores in zip(done, self._validate(done), strict=True):
            self._record(row, scores)
        self._leave()

    def _diverge(self, row: int, why: str) -> None:
        """This row has no use for further steps; the others go on."""
        state = self.progress[row]
        if state.diverged is None:
            state.diverged, state.ended = why, True
            if self.run_of[-1] and row not in self.race_of:
                self.watcher.note(f"row {self.run_of[row] + 1} leaves the grid: {why}")

    def _end_races(self) -> None:
        """Rows that another learning rate has beaten leave the batch."""
        for race in self.job.races:
            losers = race.losers(self.progress)
            for row in losers:
                self.progress[row].ended = self.progress[row].lost_race = True
            if losers:
                self.watcher.note(race.text(self.progress))

    def _gradients(self) -> Shares:
        """Fill theta's gradient; returns what each row lost. Where memory runs out, smaller passes do it."""
        batches = [self._examples_now(row) for row in self.active]
        drawn, tokens = self.draws.state(), self.tokens

        def attempt(budget: int) -> Shares:
            self.theta.grad, self.tokens = None, tokens  # an attempt before this one may have failed half-way
            self.draws.restore(drawn)
            return self._passes(batches, budget)

        return self.budget.fit(attempt)

    def _passes(self, batches: list[NDArray[np.int64]], budget: int) -> Shares:
        """All passes of a step, of at most `budget` tokens each where that can be."""
        chunks = [order.micro_batches(i, batch, self.train.lengths, budget) for i, batch in enumerate(batches)]
        counts = [self._count(batch) for batch in batches]
        passes = order.shared_passes(chunks, self.train.lengths, budget)
        shares = [([chunk.row for chunk in shared], self._pass(shared, counts)) for shared in passes]
        penalty = self.job.theta_map.add_penalty(self.theta)
        if penalty is not None:
            shares.append((list(range(len(self.active))), penalty))
        return shares

    def _pass(self, shared: list[order.MicroBatch], counts: list[float]) -> Tensor:
        """Forward and backward through some chunks; returns each one's share of its row's mean loss."""
        indices, parts = [chunk.row for chunk in shared], [chunk.examples for chunk in shared]
        which, device = np.concatenate(parts), self.job.model.device
        batch = batch_of(self.train, which, tuple(len(examples) for examples in parts), device)
        labels = labels_of(self.train, which, self.job.data.task.kind == "tags", device)
        with self.draws.only(indices):
            values = self.job.theta_map.drawn(self._theta(indices), self.draws)
            answers, sums = self._losses(batch, values, labels, indices)
            shares = sums / to_device(torch.tensor([counts[i] for i in indices]), device)
            shares.sum().backward()
        self.chosen.note([self.active[i] for i in indices], parts, answers, batch.layout)
        self.tokens += len(batch.ids)
        return shares.detach()

    def _theta(self, indices: list[int]) -> Tensor:
        """The values of these active rows."""
        if len(indices) == len(self.active):
            return self.theta
        return self.theta.index_select(0, to_device(torch.tensor(indices), self.theta.device))

    def _losses(
        self, batch: Batch, values: Mapping[str, Tensor], labels: Tensor, indices: list[int]
    ) -> tuple[Tensor, Tensor]:
        """What the model answers, and the sum of the losses of each of these active rows."""
        answers = self.job.model.answers(batch, values, self.draws)
        loss = losses(self.job.data.task.kind, answers, labels, batch.layout, self._weights(indices))
        return answers, loss.sums

    def _weights(self, indices: list[int]) -> Tensor | None:
        """The weights of classes of these active rows; None where no row has any."""
        if self.class_weights is None:
            return None
        return self.class_weights[[self.active[i] for i in indices]]

    def _examples_now(self, row: int) -> NDArray[np.int64]:
        """The row's next batch."""
        return self.orders[row].batch(self.progress[row].step)

    def _count(self, examples: NDArray[np.int64]) -> float:
        """What a batch's loss is divided by: examples, or labelled words."""
        if self.job.data.task.kind != "tags":
            return float(len(examples))
        return max(1.0, float((labels_of(self.train, examples, per_token=True) >= 0).sum()))

    def _validate(self, rows: list[int]) -> list[dict[str, float]]:
        """Validation scores of these rows' values of now."""
        validation = self.validation
        if validation is None or not rows:
            return [{} for _ in rows]
        indices = [self.active.index(row) for row in rows]
        with torch.no_grad():
            values = self.job.theta_map.tensors(self._theta(indices))
        results = self.budget.fit(lambda budget: outputs(self.job.model, values, validation, len(rows), budget))
        task = self.job.data.task
        answers = [at_best(task, validation, each.values) for each in results]
        return [
            {"loss": each.loss or 0.0, **score(task, validation, answer)}
            for each, answer in zip(results, answers, strict=True)
        ]

    def _record(self, row: int, scores: dict[str, float]) -> None:
        """Write a finished epoch into the row's history, keep it if it is the best, end the row if due."""
        state, task = self.progress[row], self.job.data.task
        state.epoch += 1
        if not math.isfinite(scores.get("loss", 0.0)):
            self._diverge(row, diverged_in_validation(state, scores["loss"]))
            return
        train = {"loss": state.loss_sum / self.an_epoch[row], **self.chosen.scores(row)}
        state.loss_sum = 0.0
        state.history.append({"epoch": state.epoch, "step": state.step, "train": train, "validation": scores})
        if state.is_best(task.metric, scores):
            self.best[row] = self.theta.detach()[self.active.index(row)]
        patience = state.config.patience
        waited = state.epoch - state.best_epoch
        state.ended = state.step >= state.steps or (patience is not None and waited >= patience)
        self.watcher.evaluated(self.run_of[row], state.epoch, scores)

    def _leave(self) -> None:
        """Take the rows that have ended out of the matrix."""
        stay = [i for i, row in enumerate(self.active) if not self.progress[row].ended]
        if len(stay) == len(self.active):
            return
        self.active = [self.active[i] for i in stay]
        self.draws.select(stay)
        if stay:
            self.theta = self.theta.detach()[stay].clone().requires_grad_()
            self.optimizer.select(self.theta.data, stay)

    # ------------------------------------------------------------------ checkpoints

    def _checkpoint(self, last: bool = False) -> None:
        """Write a checkpoint if it is time."""
        if self.writer is not None:
            self.writer.write_when_due(max(p.step for p in self.progress), self.state, last)

    def _resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        state = None if self.writer is None else self.writer.latest()
        if state is not None:
            self.restore(state)
            self.watcher.resumed(max(p.step for p in self.progress), self.tokens)

    def state(self) -> State:
        """Everything that the rest of the run depends on. The order of the data is not in it: seeds and steps give it.

        The tensors are the run's own, not copies, where they lie on the host.
        """
        self.read_losses()
        facts = {
            "active": self.active,
            "progress": [progress.to_json() for progress in self.progress],
            "draws": self.draws.state(),
            "budget": self.budget.tokens,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "device": self.theta.device.type,
        }
        tensors = {"theta": self.theta.detach(), "best": self.best, **self.optimizer.state()}
        tensors |= self.chosen.state(self.active)
        return State(facts, {name: tensor.cpu().numpy() for name, tensor in tensors.items()})

    def restore(self, state: State) -> None:
        """Be where `state` was taken."""
        facts, device = state.facts, self.theta.device
        _refuse_another_device(facts.get("device", "cpu"), device.type)
        tensors = {name: torch.from_numpy(values).to(device) for name, values in state.tensors.items()}
        self.draws.select([self.active.index(row) for row in facts["active"]])
        self.draws.restore(facts["draws"])
        self.active = list(facts["active"])
        for progress, saved in zip(self.progress, facts["progress"], strict=True):
            for field_ in fields(progress):
                if field_.name != "config":
                    setattr(progress, field_.name, saved[field_.name])
        self.budget.tokens, self.tokens, self.seconds = facts["budget"], facts["tokens"], facts["seconds"]
        self.theta, self.best = tensors["theta"].requires_grad_(), tensors["best"]
        self.optimizer.restore(self.theta.data, tensors)
        self.chosen.restore(self.active, tensors)

    def _take_unscored_as_best(self) -> None:
        """Stopped before a row's first epoch was scored: its values of now are the best there are."""
        for index, row in enumerate(self.active):
            if self.progress[row].epoch == 0:
                self.best[row] = self.theta.detach()[index]


def _taken(theta: Tensor) -> Tensor:
    """Theta's gradient, which the optimizer may change; theta is left without one."""
    grad, theta.grad = theta.grad, None
    assert grad is not None
    return grad


def _refuse_another_device(saved: str, current: str) -> None:
    """Each kind of device has draws of its own kind."""
    if saved != current:
        raise RequestError(
            f"The checkpoint was taken on the device '{saved}', and this run is on '{current}', where dropout is drawn "
            f"otherwise. Go on with `device={saved!r}`, choose another `Checkpoints(folder=...)`, or start afresh with "
            "`Checkpoints.remove()`."
        )
