"""Few examples in two stages: texts of a class move together, the head is fitted, and a run stays a run."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import bitfit
from bitfit import TrainConfig
from bitfit.data.examples import TaskData
from bitfit.errors import RequestError
from bitfit.methods.method import Method
from bitfit.training import checkpoint, few_shot
from bitfit.training.checkpoint import Checkpoints
from tests.models import tiny_backbone
from tests.training.test_loop import Notes, assert_same_runs
from tests.training.test_phases import Ender, Killed
from tests.training.tiny_task import tiny_data

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not

CONFIG = TrainConfig(learning_rate=1e-3, batch_size=8, epochs=2, precision="fp32", few_shot="on")


def few_data(kind: str = "class", pool: str = "mean") -> TaskData:
    """A tiny task whose head reads the mean of a text."""
    data = tiny_data(kind)
    return replace(data, task=replace(data.task, pool=pool))  # type: ignore[arg-type]


def wide() -> bitfit.Backbone:
    return tiny_backbone("bert", hidden_dropout_prob=0.2)


@cache
def undisturbed() -> bitfit.Run:
    return bitfit.train(wide(), few_data(), config=CONFIG)


def test_the_loss_tells_texts_of_a_class_from_all_others() -> None:
    summaries = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 0, 1, 0])
    unit = functional.normalize(summaries, dim=1)
    wanted = 0.0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        scores = torch.stack([unit[i] @ unit[j] / few_shot.TEMPERATURE for j in others])
        alike = [k for k, j in enumerate(others) if labels[j] == labels[i]]
        wanted -= float(scores.log_softmax(0)[alike].mean())
    assert float(few_shot.contrast(summaries, labels)) == pytest.approx(wanted, rel=1e-5)


def test_a_text_without_another_of_its_class_has_no_loss() -> None:
    assert float(few_shot.contrast(torch.randn(1, 4), torch.tensor([0]))) == 0
    assert float(few_shot.contrast(torch.randn(2, 4), torch.tensor([0, 1]))) == 0


def test_two_stages_are_one_run_with_one_history() -> None:
    run = undisturbed()
    assert {epoch.get("phase") for epoch in run.history} == {few_shot.STAGE, None}
    first = [epoch for epoch in run.history if epoch.get("phase")]
    assert first[-1]["train"]["loss"] < first[0]["train"]["loss"]
    assert run.delta.settings["few_shot"] == "on"
    assert "few_shot" not in bitfit.train(wide(), few_data(), config=CONFIG, few_shot="off").delta.settings


def test_the_head_starts_where_it_is_right_of_the_training_texts() -> None:
    still = replace(CONFIG, learning_rate=1e-9, epochs=1)
    random, fitted = (
        bitfit.train(tiny_backbone("bert"), few_data(), config=replace(still, few_shot=how)) for how in ("off", "on")
    )
    assert fitted.scores["train"]["accuracy"] > random.scores["train"]["accuracy"] + 0.15


def test_what_changes_is_the_selection_alone() -> None:
    backbone = wide()
    run = bitfit.train(backbone, few_data(), config=CONFIG)
    before = backbone.task_model(few_data().task.head)
    names = {slot.name for slot in run.delta.slots}
    assert names == {slot.name for slot in bitfit.select(before, "bitfit").slots}
    run.delta.verify(backbone)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 20, few_shot.STEPS + 1, few_shot.STEPS + 5])
def test_killed_in_any_stage_it_ends_with_the_same_bits(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)
    place = Checkpoints(tmp_path / "out.checkpoint", 1e-9)
    with pytest.raises(Killed):
        bitfit.train(wide(), few_data(), config=CONFIG, watcher=Killer(after), checkpoints=place)
    resumed = bitfit.train(wide(), few_data(), config=CONFIG, checkpoints=place)
    assert resumed.delta.to_bytes() == undisturbed().delta.to_bytes()
    assert resumed.history == undisturbed().history


class Killer(Ender):
    """Kills after so many steps; the first stage's epochs have no scores."""

    def __init__(self, after: int) -> None:
        super().__init__(after, Killed)

    def evaluated(self, row: int, epoch: int, scores: object) -> None:
        pass


def test_a_run_of_a_grid_is_the_run_alone() -> None:
    configs = [CONFIG, replace(CONFIG, seed=1, learning_rate=3e-3), replace(CONFIG, few_shot="off")]
    for run, config in zip(bitfit.train_rows(wide(), few_data(), "bitfit", configs), configs, strict=True):
        assert_same_runs(run, bitfit.train(wide(), few_data(), config=config))


@pytest.mark.parametrize(
    ("data", "method", "words"),
    [
        (few_data("number"), "bitfit", "needs classes, and 'tiny-number' is a task of kind 'number'"),
        (few_data(), "frozen", "needs a method that trains vectors and the whole head; found 'frozen'"),
        (few_data(), "lora", "found 'lora'"),
        (few_data(), Method.parse("bitfit", "bias"), "head 'bias'"),
        (few_data(pool="first"), "bitfit", "needs a head on the mean"),
    ],
)
def test_what_cannot_be_in_two_stages_is_refused(data: TaskData, method: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        bitfit.train(tiny_backbone("bert"), data, method, CONFIG)


@pytest.mark.parametrize("start", ["probe", "frequencies"])
def test_a_start_of_the_head_that_would_be_lost_is_refused(start: str) -> None:
    with pytest.raises(RequestError, match=f"fits the head by itself; found .*{start}"):
        bitfit.train(wide(), few_data(), config=CONFIG, head_start=start)


def test_auto_means_few_examples_of_each_class_on_a_head_over_the_mean() -> None:
    backbone, data, method = tiny_backbone("bert"), few_data(), Method.parse("bitfit")
    auto = replace(CONFIG, few_shot="auto")

    def decided(data: TaskData, method: Method = method) -> str:
        return few_shot.settled(auto, method, backbone, data).few_shot

    assert decided(data) == "on"
    assert decided(few_data(pool="first")) == decided(few_data("number")) == "off"
    assert few_shot.settled(replace(auto, head_start="probe"), method, backbone, data).few_shot == "off"
    assert decided(data, Method.parse("frozen")) == decided(data, Method.parse("full")) == "off"
    many = np.resize(np.arange(len(data.splits["train"])), 4 * few_shot.MOST)
    assert decided(replace(data, splits={"train": data.splits["train"].only(many)})) == "off"


def test_how_many_steps_the_first_stage_takes_is_said() -> None:
    data = few_data()
    config = few_shot.stage_config(CONFIG, data)
    assert config.epochs is not None
    steps = config.epochs * math.ceil(len(data.splits["train"]) / config.batch_size)
    assert f"({steps} steps)" in few_shot.note(data)


def test_that_there_are_two_stages_is_said() -> None:
    notes = Notes()
    bitfit.train(tiny_backbone("bert"), few_data(), config=CONFIG, watcher=notes)
    assert any(note.startswith("few-shot") for note in notes.notes)


ASKS = {
    "who": "wrote the play|won the cup|painted the ceiling|led the army|found the island|built the tower|sang the hymn"
    "|broke the record|owns the company|founded the school|played the king|signed the treaty",
    "where": "is the river|does the train stop|was the battle|do the birds nest|is the museum|are the oldest caves"
    "|did the ship sink|is the wine made|was the king crowned|does the road end|is the fish caught|do the monks live",
}


@pytest.mark.real
def test_eight_examples_of_a_class_teach_the_embedded_model_what_a_question_asks_for() -> None:
    rows = [{"text": f"{word} {end}?", "label": word} for word, ends in ASKS.items() for end in ends.split("|")]
    places = range(len(rows))
    splits = {
        "train": [rows[i] for i in places if i % 12 < 8],
        "validation": [rows[i] for i in places if i % 12 >= 8],
    }
    notes = Notes()
    try:
        backbone = bitfit.load("minilm")
    except bitfit.errors.MissingExtraError:
        pytest.skip("the extra 'demo' is not installed")
    run = bitfit.train(backbone, splits, options={"text": "text", "label": "label"}, watcher=notes)
    assert any(note.startswith("few-shot: 16 examples of 2 classes") for note in notes.notes)
    assert run.delta.settings["few_shot"] == "on"
    assert run.scores["validation"]["accuracy"] >= 0.75  # 8 questions
