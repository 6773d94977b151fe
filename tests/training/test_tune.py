"""A tuning changes one thing at a time, keeps what is best on validation and ends in time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import bitfit
from bitfit import TrainConfig
from bitfit.errors import RequestError, TrainingError
from bitfit.training import tune as module
from bitfit.training.tune import tune
from bitfit.watcher import Watcher
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not

BASE = TrainConfig(batch_size=8, precision="fp32", learning_rate=1e-3, epochs=1)
ROWS = [{"text": f"{'w5 w6' if i % 2 else 'w7 w8'} w{9 + i % 40}", "label": "pn"[i % 2]} for i in range(60)]
FREE = TrainConfig(batch_size=8, precision="fp32")


class Clock:
    """Each look at it takes some seconds."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


class Heard(Watcher):
    def __init__(self, stop_in_trial: int = 0) -> None:
        self.notes: list[str] = []
        self.stop_in_trial, self.started_trials = stop_in_trial, 0

    def started(self, steps: int, rows: int) -> None:
        self.started_trials += 1

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        if self.started_trials == self.stop_in_trial:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def tuned(config: TrainConfig, minutes: float = 60, watcher: Heard | None = None, **options: Any) -> bitfit.Run:
    return tune(
        tiny_backbone("bert"), tiny_data(), "bitfit", minutes, config, watcher=watcher, baselines=False, **options
    )


def trials(run: bitfit.Run) -> list[Mapping[str, Any]]:
    return list(run.delta.settings["tuned"])


@pytest.fixture(scope="module")
def free() -> tuple[bitfit.Run, list[str]]:
    heard = Heard()
    return tuned(TrainConfig(batch_size=8, precision="fp32", epochs=1), watcher=heard), heard.notes


def test_the_best_of_all_trials_is_kept(free: tuple[bitfit.Run, list[str]]) -> None:
    run, notes = free
    assert len(trials(run)) > 2
    best = max(trial["validation"] for trial in trials(run))
    assert run.scores["validation"]["accuracy"] == best
    chosen = (run.delta.task.pool, run.config.learning_rate, run.config.epochs, best)
    assert chosen in [tuple(one.values()) for one in trials(run)]
    assert sum(note.startswith("trial ") for note in notes) == len(trials(run))


def test_each_trial_differs_from_one_before_it_in_one_thing(free: tuple[bitfit.Run, list[str]]) -> None:
    made = [(one["pool"], one["learning_rate"], one["epochs"]) for one in trials(free[0])]
    assert len(set(made)) == len(made)
    for i, later in enumerate(made[1:], 1):
        assert any(sum(a != b for a, b in zip(later, earlier, strict=True)) == 1 for earlier in made[:i])


def test_what_is_given_stays() -> None:
    run = tuned(BASE)
    assert {(one["learning_rate"], one["epochs"]) for one in trials(run)} == {(1e-3, 1)}
    assert {one["pool"] for one in trials(run)} == {"first", "mean"}


def test_a_pooling_that_is_asked_for_stays() -> None:
    rows = [{"text": "good" if i % 2 else "bad", "label": "pn"[i % 2]} for i in range(60)]
    run = tune(tiny_backbone("bert"), rows, "bitfit", 60, BASE, options={"pool": "mean"}, baselines=False)
    assert {one["pool"] for one in trials(run)} == {"mean"}


def test_no_trial_begins_that_would_not_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", Clock(31.0))
    run = tuned(FREE, minutes=1)
    assert len(trials(run)) == 1


def test_the_test_split_is_scored_once_and_as_evaluate_does(free: tuple[bitfit.Run, list[str]]) -> None:
    run, _ = free
    again = bitfit.evaluate(tiny_backbone("bert"), run.delta, tiny_data(), "test", precision="fp32")
    assert run.scores["test"] == run.delta.scores["test"] == again


@pytest.mark.parametrize("setting", [{"few_shot": "on"}, {"head_start": "probe"}])
def test_a_setting_that_needs_the_mean_keeps_it(setting: dict[str, Any]) -> None:
    backbone = replace(tiny_backbone("bert"), pool="mean")
    run = tune(backbone, ROWS, "bitfit", 60, replace(BASE, **setting), baselines=False)
    assert {one["pool"] for one in trials(run)} == {"mean"}


def test_the_run_knows_of_all_splits_and_its_rivals_whichever_trial_won(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "best_run", lambda runs: len(runs) - 1)
    splits = {"train": ROWS, "validation": ROWS[:20], "test": ROWS[:30]}
    run = tune(tiny_backbone("bert"), splits, "bitfit", 60, BASE)
    alone = bitfit.train(tiny_backbone("bert"), splits, "bitfit", BASE)
    assert run.delta.task.pool != alone.delta.task.pool
    assert set(run.baselines) == set(run.delta.settings["baselines"]) == {"frozen probe", "TF-IDF"}
    assert run.measured_on == alone.measured_on
    leaks = [[one.text for one in each.findings if one.code == "BF009"] for each in (run, alone)]
    assert leaks[0] == leaks[1] == ["20 of 20 texts of validation and 30 of 30 texts of test are in train too"]
    for name in ("data", "measured_on", "facts"):
        assert run.delta.settings[name] == alone.delta.settings[name]


def test_ctrl_c_keeps_the_best_so_far() -> None:
    run = tuned(FREE, watcher=Heard(stop_in_trial=2))
    assert len(trials(run)) == 1
    assert run.stopped
    assert run.delta.settings["stopped"]
    assert "test" in run.scores
    first = tuned(FREE, watcher=Heard(stop_in_trial=1))
    assert first.stopped


def test_ctrl_c_before_a_trial_has_begun_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    train_rows, calls = module.train_rows, []

    def second_is_stopped(*given: Any, **named: Any) -> list[bitfit.Run]:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train_rows(*given, **named)

    monkeypatch.setattr(module, "train_rows", second_is_stopped)
    run = tuned(FREE)
    assert run.stopped
    assert len(trials(run)) == 1


def test_a_trial_that_diverges_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    train_rows, calls = module.train_rows, []

    def second_fails(*given: Any, **named: Any) -> list[bitfit.Run]:
        calls.append(given)
        if len(calls) == 2:
            raise TrainingError("The loss became nan at step 1.")
        return train_rows(*given, **named)

    monkeypatch.setattr(module, "train_rows", second_fails)
    heard = Heard()
    run = tuned(FREE, watcher=heard)
    assert trials(run)[1]["validation"] is None
    assert any("The loss became nan" in note for note in heard.notes)


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_a_time_that_is_none(minutes: float) -> None:
    with pytest.raises(RequestError, match="minutes above 0"):
        tuned(BASE, minutes)


def test_without_validation_there_is_nothing_to_choose_by() -> None:
    data = tiny_data()
    data = type(data)(data.task, {"train": data.splits["train"]})
    with pytest.raises(RequestError, match="no such split"):
        tune(tiny_backbone("bert"), data, "bitfit", 1, BASE)
