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
from bitfit.methods.method import Method
from bitfit.training import checkpoint
from bitfit.training.checkpoint import Checkpoints
from bitfit.training.progress import Progress
from bitfit.training.race import FACTORS, Lineup, Race, rates_to_race, round_ends
from bitfit.training.recipe import Recipe
from bitfit.watcher import Watcher
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

# 120 steps, of which the race takes 12: within the first epoch's 40.
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
    assert run.delta.settings["learning_rate"] == run.config.learning_rate
    last = max(race["steps"])
    finalists = [i for i, steps in enumerate(race["steps"]) if steps == last]
    assert len(finalists) == 2
    best = min(finalists, key=lambda i: race["losses"][i])
    assert race["rates"][best] == run.config.learning_rate
    listed = ", ".join(f"{rate:g}" for rate in RATES)
    assert (
        f"learning rate {run.config.learning_rate:g}: of {listed} its loss was the lowest after 12 of 120 steps"
        in notes
    )


def test_a_winner_at_the_edge_is_a_finding(backbone: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes(factors: tuple[float, ...]) -> set[str]:
        monkeypatch.setattr("bitfit.training.race.FACTORS", factors)
        run = bitfit.train(backbone, tiny_data(train=40), config=RACED, baselines=False)
        return {finding.code for finding in run.findings}

    assert "BF002" in codes((1e-6, 1.0))
    assert "BF002" not in codes((1e-6, 1.0, 2000.0))


def test_the_losers_cost_less_than_a_third_of_a_run() -> None:
    for steps in (400, 600, 5_000):
        (first, kept), (last, one) = zip(round_ends(steps), (2, 1), strict=True)
        further = (len(FACTORS) - 1) * first + (kept - one) * (last - first)
        assert further <= 0.3 * steps


def test_each_of_several_seeds_has_its_race(backbone: bitfit.Backbone) -> None:
    heard = Heard()
    configs = [RACED, replace(RACED, seed=1), replace(RACED, learning_rate=1e-3)]
    runs = bitfit.train_rows(backbone, tiny_data(train=40), "bitfit", configs, watcher=heard, baselines=False)
    assert [run.config.seed for run in runs] == [0, 1, 0]
    assert ["race" in run.delta.settings for run in runs] == [True, True, False]
    assert runs[2].config.learning_rate == 1e-3
    assert sum(note.startswith("learning rate") for note in heard.notes) == 2


def test_a_killed_race_goes_on_to_the_same_bits(
    backbone: bitfit.Backbone, raced: tuple[bitfit.Run, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)
    kept = Checkpoints(tmp_path / "out.checkpoint", 1e-9)
    data = tiny_data(train=40)
    for after in (3, 5, 20):  # in the first round, in the second, after the race
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


def test_stopped_in_the_race_the_best_so_far_is_kept(backbone: bitfit.Backbone) -> None:
    run = bitfit.train(backbone, tiny_data(train=40), config=RACED, watcher=Heard(4), baselines=False)
    assert run.stopped
    losses = run.delta.settings["race"]["losses"]
    assert RATES[int(np.argmin(losses))] == run.config.learning_rate


def test_a_rate_that_diverges_loses(backbone: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitfit.training.race.FACTORS", (2400.0, 1.0, 0.5))
    heard = Heard()
    run = bitfit.train(backbone, tiny_data(train=40), config=RACED, watcher=heard, baselines=False)
    assert run.diverged is None
    assert run.config.learning_rate in (SUITS, 0.5 * SUITS)
    assert not any("leaves the grid" in note for note in heard.notes)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (replace(RACED, learning_rate=SUITS), "bitfit"),  # it is given
        (replace(RACED, schedule="constant"), "bitfit"),  # level, as the paper's
        (replace(RACED, epochs=2), "bitfit"),  # 8 steps cannot tell
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
    last = round_ends(an_epoch * epochs)[-1]
    assert bool(rates) == (FEWEST <= last <= an_epoch)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=6, unique=True))
def test_the_lowest_loss_wins(levels: list[float]) -> None:
    steps = 500
    lineup = Lineup.of([TrainConfig(learning_rate=1e-3, epochs=1)], [[1e-3 * (i + 1) for i in range(len(levels))]])
    progress = [Progress.of(config, steps) for config in lineup.configs]
    race = lineup.races[0]
    for _ in range(round_ends(steps)[-1]):
        _one_step(race, progress, dict(enumerate(levels)))
    left = [row for row, state in enumerate(progress) if not state.ended]
    assert left == [int(np.argmin(levels))] == [race.winner(progress)]


def _one_step(race: Race, progress: list[Progress], levels: Mapping[int, float]) -> None:
    for row, state in enumerate(progress):
        if not state.ended:
            race.note(state, levels[row])
    for row in race.losers(progress):
        progress[row].ended = progress[row].lost_race = True
