"""Learning rates race in one pass: the winner is the run that it would be alone, and the losers cost little."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bitfit
from bitfit import TrainConfig
from bitfit.errors import TrainingError
from bitfit.methods.method import Method
from bitfit.training import checkpoint
from bitfit.training.checkpoint import Checkpoints
from bitfit.training.progress import Progress
from bitfit.training.race import FACTORS, LEAD, Lineup, Race, race_steps, rates_to_race
from bitfit.training.recipe import Recipe
from bitfit.watcher import Watcher
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not

# 120 steps, of which the race takes 15: within the first epoch's 40.
RACED = TrainConfig(batch_size=1, epochs=3, precision="fp32")
FEWEST = 10
SUITS = Method.parse("bitfit").learning_rate
RATES = tuple(factor * SUITS for factor in FACTORS)


@pytest.fixture(autouse=True, scope="module")
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitfit.training.race.FEWEST_STEPS", FEWEST)
        yield


class Heard(Watcher):
    """Keeps what it is told; raises what it is given after some steps."""

    def __init__(self, stop_after: int = 0, stop: type[BaseException] = KeyboardInterrupt) -> None:
        self.notes: list[str] = []
        self.left, self.stop = stop_after, stop

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.stop

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def backbone() -> bitfit.Backbone:
    return tiny_backbone("bert")


@pytest.fixture(scope="module")
def raced(backbone: bitfit.Backbone) -> tuple[bitfit.Run, list[str]]:
    heard = Heard()
    run = bitfit.train(backbone, tiny_data(train=40), config=RACED, watcher=heard, baselines=False)
    return run, heard.notes


def test_the_winner_is_the_run_that_it_would_be_alone(
    backbone: bitfit.Backbone, raced: tuple[bitfit.Run, list[str]]
) -> None:
    run, _ = raced
    assert run.config.learning_rate in RATES
    alone = bitfit.train(backbone, tiny_data(train=40), config=run.config, baselines=False)
    assert "race" not in alone.delta.settings
    for key, values in alone.delta.values.items():
        assert run.delta.values[key] == pytest.approx(values, rel=1e-3, abs=1e-5), key
    assert [epoch["step"] for epoch in run.history] == [epoch["step"] for epoch in alone.history] == [40, 80, 120]


def test_it_says_what_it_chose_and_why_and_the_delta_keeps_it(raced: tuple[bitfit.Run, list[str]]) -> None:
    run, notes = raced
    race = run.delta.settings["race"]
    assert race["rates"] == list(RATES)
    assert race["steps"] == [15] * len(RATES)
    assert run.delta.settings["learning_rate"] == run.config.learning_rate
    listed = ", ".join(f"{rate:g} (loss {loss:.3f})" for rate, loss in zip(RATES, race["losses"], strict=True))
    assert f"learning rate {run.config.learning_rate:g}, of {listed} after 15 of 120 steps" in notes


def test_a_winner_at_the_edge_is_a_finding(backbone: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes(factors: tuple[float, ...]) -> set[str]:
        monkeypatch.setattr("bitfit.training.race.FACTORS", factors)
        run = bitfit.train(backbone, tiny_data(train=40), config=RACED, baselines=False)
        return {finding.code for finding in run.findings}

    assert "BF002" in codes((1e-6, 1.0))
    assert "BF002" not in codes((1e-6, 1.0, 1.01))


def test_the_losers_cost_less_than_a_third_of_a_run() -> None:
    for steps in (400, 600, 5_000):
        assert (len(FACTORS) - 1) * race_steps(steps) <= 0.3 * steps


def test_each_of_several_seeds_has_its_race(backbone: bitfit.Backbone) -> None:
    heard = Heard()
    configs = [RACED, replace(RACED, seed=1), replace(RACED, learning_rate=1e-3)]
    runs = bitfit.train_rows(backbone, tiny_data(train=40), "bitfit", configs, watcher=heard, baselines=False)
    assert [run.config.seed for run in runs] == [0, 1, 0]
    assert ["race" in run.delta.settings for run in runs] == [True, True, False]
    assert runs[2].config.learning_rate == 1e-3
    assert sum(note.startswith("learning rate") for note in heard.notes) == 2


def test_rows_that_race_are_one_run_to_a_watcher(backbone: bitfit.Backbone) -> None:
    class Counted(Watcher):
        def started(self, steps: int, rows: int) -> None:
            told.append((-1, rows))

        def evaluated(self, row: int, epoch: int, scores: Mapping[str, float]) -> None:
            told.append((row, epoch))

    told: list[tuple[int, int]] = []
    configs = [RACED, replace(RACED, learning_rate=1e-3), replace(RACED, seed=1)]
    bitfit.train_rows(backbone, tiny_data(train=40), "bitfit", configs, watcher=Counted(), baselines=False)
    assert told[0] == (-1, 3)
    assert sorted(told[1:]) == [(run, epoch) for run in range(3) for epoch in (1, 2, 3)]


def test_the_edge_of_a_grid_is_one_of_the_rates_that_were_given(
    backbone: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [RACED, replace(RACED, learning_rate=SUITS / 2)]
    monkeypatch.setattr("bitfit.training.race.LEAD", 0.0)  # no other rate is ever so far ahead
    monkeypatch.setattr("bitfit.training.train.best_run", lambda runs: 0)
    best = bitfit.train_rows(backbone, tiny_data(train=40), "bitfit", configs, baselines=False)[0]
    assert best.config.learning_rate == SUITS
    assert "race" in best.delta.settings
    assert "BF002" not in [finding.code for finding in best.findings]


def test_a_killed_race_goes_on_to_the_same_bits(
    backbone: bitfit.Backbone, raced: tuple[bitfit.Run, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)
    kept = Checkpoints(tmp_path / "out.checkpoint", 1e-9)
    data = tiny_data(train=40)
    for after in (3, 9, 20):  # twice in the race, then after it
        with pytest.raises(Killed):
            bitfit.train(
                backbone,
                tiny_data(train=40),
                config=RACED,
                watcher=Heard(after, Killed),
                checkpoints=kept,
                baselines=False,
            )
    run = bitfit.train(backbone, data, config=RACED, checkpoints=kept, baselines=False)
    assert run.delta.to_bytes() == raced[0].delta.to_bytes()


def test_stopped_in_the_race_the_row_that_would_win_is_kept(backbone: bitfit.Backbone) -> None:
    run = bitfit.train(backbone, tiny_data(train=40), config=RACED, watcher=Heard(4), baselines=False)
    assert run.stopped
    losses = run.delta.settings["race"]["losses"]
    ahead = min(losses) <= LEAD * losses[RATES.index(SUITS)]
    assert run.config.learning_rate == (RATES[int(np.argmin(losses))] if ahead else SUITS)


@pytest.mark.parametrize(("gone", "wins"), [({2}, 1), ({1}, 2), ({0, 1}, 2), ({0, 1, 2}, 1)])
def test_a_rate_that_diverges_loses(gone: set[int], wins: int) -> None:
    lineup = Lineup.of([TrainConfig(learning_rate=1e-3, epochs=1)], [[2.5e-4, 1e-3, 4e-3]])
    progress = [Progress.of(config, 500) for config in lineup.configs]
    for row, level in enumerate((0.8, 0.7, 0.75)):
        progress[row].race_losses = [level] * race_steps(500)
    for row in gone:
        progress[row].diverged, progress[row].ended = "The loss became nan.", True
    race = lineup.races[0]
    assert race.winner(progress) == wins
    assert set(race.losers(progress)) == {0, 1, 2} - gone - {wins}


def test_a_loss_that_is_not_finite_leaves_no_note_of_a_grid(backbone: bitfit.Backbone) -> None:
    heard = Heard()
    config = replace(RACED, clip=0.0)
    data = tiny_data("number", train=40)
    data.splits["train"].labels[7] = 1e30  # its square is no number
    with pytest.raises(TrainingError):
        bitfit.train(backbone, data, config=config, watcher=heard, baselines=False)
    assert not any("leaves the grid" in note for note in heard.notes)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (replace(RACED, learning_rate=SUITS), "bitfit"),  # it is given
        (replace(RACED, schedule="constant"), "bitfit"),  # level, as the paper's
        (replace(RACED, epochs=1), "bitfit"),  # 5 steps cannot tell
        (replace(RACED, epochs=11), "bitfit"),  # the race would see examples twice
        (RACED, "full"),  # its runs share no pass
    ],
)
def test_where_nothing_races(config: TrainConfig, method: str) -> None:
    backbone, data = tiny_backbone("bert"), tiny_data(train=40)
    recipe = Recipe.of(backbone, data, Method.parse(method), [config])
    assert recipe.rates == ((),)
    assert "rates" not in recipe.asked()


def test_a_model_on_padded_batches_takes_the_rate_that_suits() -> None:
    run = bitfit.train(tiny_backbone("mpnet"), tiny_data(train=40), config=RACED, baselines=False)
    assert run.config.learning_rate == SUITS
    assert "race" not in run.delta.settings


def test_auto_is_another_word_for_none_given() -> None:
    assert TrainConfig(learning_rate="auto") == TrainConfig()  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100_000), st.integers(1, 64), st.integers(1, 20))
def test_a_race_ends_within_the_first_epoch(examples: int, batch_size: int, epochs: int) -> None:
    given_ = TrainConfig(batch_size=batch_size, epochs=epochs)
    rates = rates_to_race(given_, given_.settled(Method.parse("bitfit"), examples), examples)
    an_epoch = -(-examples // batch_size)
    last = race_steps(an_epoch * epochs)
    assert bool(rates) == (FEWEST <= last <= an_epoch)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(0.1, 5))
def test_the_rate_that_suits_wins_unless_another_is_clearly_ahead(lower: float, suits: float, higher: float) -> None:
    steps, levels = 500, {0: lower, 1: suits, 2: higher}
    lineup = Lineup.of([TrainConfig(learning_rate=1e-3, epochs=1)], [[2.5e-4, 1e-3, 4e-3]])
    progress = [Progress.of(config, steps) for config in lineup.configs]
    race = lineup.races[0]
    for _ in range(race_steps(steps)):
        assert not any(state.ended for state in progress)
        _one_step(race, progress, levels)
    left = [row for row, state in enumerate(progress) if not state.ended]
    wanted = min(levels, key=lambda row: levels[row]) if min(lower, higher) <= LEAD * suits else 1
    assert left == [wanted] == [race.winner(progress)]


def test_only_what_is_lost_after_the_warm_up_counts() -> None:
    steps = 500
    lineup = Lineup.of([TrainConfig(learning_rate=1e-3, epochs=1)], [[1e-3, 4e-3]])
    progress = [Progress.of(config, steps) for config in lineup.configs]
    for step in range(race_steps(steps)):
        _one_step(lineup.races[0], progress, {0: 0.5, 1: 0.1 if step < 45 else 0.9})
    assert [state.ended for state in progress] == [False, True]


def _one_step(race: Race, progress: list[Progress], levels: Mapping[int, float]) -> None:
    for row, state in enumerate(progress):
        if not state.ended:
            race.note(state, levels[row])
    for row in race.losers(progress):
        progress[row].ended = progress[row].lost_race = True
