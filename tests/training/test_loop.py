"""Rows trained together against each alone; what changes is the selection; a run learns, stops and says why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import bitfit
from bitfit import Run, TrainConfig
from bitfit.backbone.heads import Head
from bitfit.data.examples import Examples, TaskData
from bitfit.data.task import Task
from bitfit.errors import RequestError, TrainingError
from bitfit.methods.method import Method, select
from bitfit.training import outcome, train
from bitfit.training.checkpoint import Checkpoints
from bitfit.training.run import best_run
from bitfit.watcher import Watcher
from tests.batches import SHAKEN
from tests.models import BIAS_FREE, tiny_backbone
from tests.training.tiny_task import tiny_data

SUBSETS = ("bitfit", "bitfit[b_m2,b_q]@1", "frozen", "full", "layernorm", "random-uniform", "random-rows-columns")
# Where a span's head is one linear layer, the bias before it moves the scores of all places alike: its gradient is
# rounding noise, which Adam makes steps of. Nothing that anybody sees depends on it.
LAST_NORM = "bert.encoder.layer.1.output.LayerNorm.bias"
KINDS = ("class", "labels", "number", "tags", "span")
BASE = TrainConfig(learning_rate=3e-3, batch_size=8, epochs=2, precision="fp32")
DIFFERENT = [  # they leave the pass one after another, the second by its patience
    BASE,
    replace(BASE, learning_rate=0.3, batch_size=5, epochs=9, seed=1, patience=1),
    replace(BASE, learning_rate=1e-3, batch_size=4, epochs=3, seed=2, schedule="constant", clip=0.0),
    replace(BASE, learning_rate=1e-2, batch_size=22, epochs=3, clip=0.1, warmup=0.5, weight_decay=0.1),
]


class Notes(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps = 0

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        self.steps += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def data_of(kind: str) -> TaskData:
    """A tiny task of any kind."""
    if kind != "span":
        return tiny_data(kind)
    plain = tiny_data("class")
    task = Task("tiny-span", "span", ("question", "context"), "answers", max_length=16)
    return TaskData(task, {name: _spans(examples) for name, examples in plain.splits.items()})


def _spans(examples: Examples) -> Examples:
    """Each piece is the word of its number; the answer is the second and third."""
    texts = [examples.ids[a:b] for a, b in zip(examples.offsets, examples.offsets[1:], strict=False)]
    words = [[str(1000 + piece)[1:] for piece in text] for text in texts]
    places = np.concatenate([np.arange(len(text)) * 4 for text in texts])
    rows = pa.table(
        {
            "context": [" ".join(own) for own in words],
            "answers": [{"text": [" ".join(own[1:3])], "answer_start": [4]} for own in words],
        }
    )
    source = {"row": np.arange(len(texts)), "start": places, "end": places + 3, "rows": rows}
    labels = np.tile(np.array([[1, 2]]), (len(texts), 1))
    return replace(examples, labels=labels, source={**source, "context": "context", "answers": "answers"})


def ended(data: TaskData) -> TaskData:
    """The same with the end's number at the end of each text, where BART and T5 look for it."""
    for examples in data.splits.values():
        examples.ids[examples.ids == 3] = 4
        examples.ids[examples.offsets[1:] - 1] = 3
    return data


def assert_same_runs(together: Run, alone: Run, share: float = 1e-3) -> None:
    """The same values and the same history, to rounding."""
    assert together.config == alone.config
    assert together.best_epoch == alone.best_epoch
    assert set(together.delta.values) == set(alone.delta.values)
    for key, wanted in alone.delta.values.items():
        if together.delta.task.kind == "span" and key == LAST_NORM:
            continue
        found = together.delta.values[key]
        assert np.abs(found - wanted).max() <= share * np.abs(wanted).max(), key
    assert len(together.history) == len(alone.history)
    for one, other in zip(together.history, alone.history, strict=True):
        for split in ("train", "validation"):
            assert one[split] == pytest.approx(other[split], rel=share, abs=share)
    assert together.scores.keys() == alone.scores.keys()


def assert_each_alone(
    backbone: bitfit.Backbone, data: TaskData, method: str | Method, configs: Sequence[TrainConfig]
) -> None:
    for run, config in zip(bitfit.train_rows(backbone, data, method, configs), configs, strict=True):
        assert_same_runs(run, bitfit.train(backbone, data, method, config))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_rows_together_train_as_each_does_alone(kind: str) -> None:
    assert_each_alone(tiny_backbone("bert"), data_of(kind), "bitfit", DIFFERENT)


@pytest.mark.parametrize(
    "model_type", ["roberta", "distilbert", "electra", "albert", "gpt2", "opt", "gpt_neox", "qwen2"]
)
def test_rows_of_other_architectures(model_type: str) -> None:
    backbone = tiny_backbone(model_type, **SHAKEN.get(model_type, {}))
    assert_each_alone(backbone, tiny_data(), "bitfit", DIFFERENT[:3])


@pytest.mark.parametrize(
    "method",
    [
        Method.parse("bitfit[b_m2,b_q]@1", "bias"),
        pytest.param(Method.parse("frozen"), marks=pytest.mark.slow),
        pytest.param(Method.parse("bitfit@0", "frozen"), marks=pytest.mark.slow),
    ],
)
def test_rows_of_other_methods(method: Method) -> None:
    assert_each_alone(tiny_backbone("bert"), tiny_data(), method, DIFFERENT[:3])


@pytest.mark.slow
def test_rows_over_the_mean_of_a_text() -> None:
    data = tiny_data()
    pooled = replace(data, task=replace(data.task, pool="mean"))
    assert_each_alone(tiny_backbone("bert"), pooled, "bitfit", DIFFERENT[:3])


@pytest.mark.parametrize(
    ("model_type", "method"), [("deberta-v2", "bitfit"), ("bert", "full"), ("bert", "random-uniform")]
)
def test_rows_that_cannot_share_a_pass_are_the_same_to_the_bit(model_type: str, method: str) -> None:
    backbone, data, notes = tiny_backbone(model_type), tiny_data(), Notes()
    runs = bitfit.train_rows(backbone, data, method, DIFFERENT[:2], watcher=notes)
    assert f"{method} on {model_type} cannot share a pass: one run after another" in notes.notes
    for run, config in zip(runs, DIFFERENT, strict=False):
        alone = bitfit.train(backbone, data, method, config).delta
        assert all(np.array_equal(run.delta.values[key], value) for key, value in alone.values.items())
        assert run.delta.slots == alone.slots


@pytest.mark.parametrize("model_type", ["bert", "mpnet", "bart", "t5"])
def test_the_same_seed_is_the_same_file_whatever_torch_drew_before(model_type: str) -> None:
    backbone, method = tiny_backbone(model_type), "frozen" if model_type in BIAS_FREE else "bitfit"
    data = ended(tiny_data())
    first = bitfit.train(backbone, data, method, BASE).delta.to_bytes()
    torch.rand(5)
    assert bitfit.train(backbone, data, method, BASE).delta.to_bytes() == first
    assert bitfit.train(backbone, data, method, replace(BASE, seed=1)).delta.to_bytes() != first


def test_the_padded_path_is_said_aloud() -> None:
    notes = Notes()
    bitfit.train(tiny_backbone("mpnet"), tiny_data(), "frozen", replace(BASE, epochs=1), watcher=notes)
    assert "mpnet runs on padded batches: it does not take them without padding" in notes.notes
    notes = Notes()
    bitfit.train(tiny_backbone("bert"), tiny_data(), "frozen", replace(BASE, epochs=1), watcher=notes)
    assert not any("padded" in note for note in notes.notes)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "gpt_neox", "deberta-v2", "bart", "llama"])
@pytest.mark.parametrize("method", SUBSETS)
def test_what_changes_is_the_selection(method: str, model_type: str) -> None:
    if (model_type in BIAS_FREE and method not in ("full", "frozen", "layernorm")) or (model_type, method[:7]) == (
        "gpt2",
        "bitfit[",
    ):
        pytest.skip("it has no such biases")
    backbone, data = tiny_backbone(model_type), ended(tiny_data())
    config = replace(BASE, seed=3)
    untouched = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    run = bitfit.train(backbone, data, method, config)
    assert all(torch.equal(value, untouched[name]) for name, value in backbone.model.state_dict().items())

    model = backbone.task_model(Head("class", 2), seed=config.seed)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    selection = select(model, method, seed=config.seed)
    run.delta.apply(model)
    moving = {name: torch.zeros(value.numel(), dtype=torch.bool) for name, value in before.items()}
    for slot in selection.slots:
        if not slot.inert:
            moving[slot.name][slice(None) if slot.index is None else torch.from_numpy(slot.index)] = True
    stayed = 0
    for name, value in model.named_parameters():
        changed = (value.detach() != before[name]).flatten()
        assert not bool((changed & ~moving[name]).any()), name
        stayed += int((~changed & moving[name]).sum())
    # Embeddings of pieces that no text has, and cut-off units, have no gradient.
    assert stayed <= 0.05 * selection.size
    if (method, model_type) == ("bitfit", "bert"):
        assert stayed == 0
    assert run.trainable == selection.size


def test_it_learns() -> None:
    data = tiny_data("tags", train=200, validation=60)
    run = bitfit.train(tiny_backbone("bert"), data, "full", replace(BASE, epochs=3))
    assert run.scores["validation"]["accuracy"] > 0.9
    assert run.history[-1]["train"]["loss"] < run.history[0]["train"]["loss"]


def test_a_loss_that_is_not_finite_names_step_and_learning_rate() -> None:
    backbone = tiny_backbone("bert")
    with torch.no_grad():
        backbone.model.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"The loss became nan at step 1 of 6 with learning rate 0\.003"):
        bitfit.train(backbone, tiny_data(), "bitfit", BASE)


WILD = replace(BASE, weight_decay=1e30, seed=1)  # its head soon holds what no number can say


def test_a_row_that_diverges_leaves_the_grid_and_the_others_go_on() -> None:
    backbone, data, notes = tiny_backbone("bert"), tiny_data(), Notes()
    first, wild, last = bitfit.train_rows(backbone, data, "bitfit", [BASE, WILD, replace(BASE, seed=2)], watcher=notes)
    assert_same_runs(first, bitfit.train(backbone, data, "bitfit", BASE))
    assert_same_runs(last, bitfit.train(backbone, data, "bitfit", replace(BASE, seed=2)))
    assert (first.diverged, last.diverged) == (None, None)
    assert wild.diverged is not None
    assert "learning rate 0.003" in wild.diverged
    assert wild.delta.settings["diverged"] == wild.diverged
    assert "diverged" not in first.delta.settings
    assert "test" not in wild.scores
    assert not wild.stopped
    assert [note for note in notes.notes if note.startswith("row 2 leaves the grid: The loss became")]


def test_a_run_that_diverged_is_never_the_best_whatever_it_scored_before() -> None:
    run = bitfit.train(tiny_backbone("bert"), tiny_data(), "bitfit", BASE)
    perfect = replace(run, scores={"validation": {"accuracy": 1.0}}, diverged="The loss became nan.")
    unscored = replace(run, scores={})
    assert best_run([perfect, run]) == best_run([run, perfect]) ^ 1 == 1
    assert best_run([perfect, unscored, run]) == 2
    assert best_run([perfect, unscored]) == 1
    with pytest.raises(TrainingError, match="Every run diverged"):
        best_run([perfect])
    with pytest.raises(RequestError, match="There is no run to choose from"):
        best_run([])


@pytest.mark.parametrize("method", ["bitfit", "full"])  # in one pass, and one after another
def test_where_every_row_diverges_that_is_an_error(method: str, tmp_path: Path) -> None:
    places = Checkpoints(tmp_path / "c", 1e-9)
    with pytest.raises(TrainingError, match=r"seed 1\. Expected a finite number(.|\n)*seed 2"):
        bitfit.train_rows(tiny_backbone("bert"), tiny_data(), method, [WILD, replace(WILD, seed=2)], checkpoints=places)
    assert not places.folder.exists(), "they would lead to the same end"


def test_a_loss_on_validation_that_is_not_finite_ends_a_run() -> None:
    config = replace(WILD, batch_size=22, epochs=1)  # one step: what it does to the head is seen on validation
    with pytest.raises(TrainingError, match="The loss on validation became inf after epoch 1 of 1"):
        bitfit.train(tiny_backbone("bert"), tiny_data("number"), "bitfit", config)


def test_rows_in_bf16_learn_what_each_does_alone_as_far_as_bf16_tells() -> None:
    backbone, data = tiny_backbone("bert"), tiny_data()
    configs = [replace(BASE, precision="bf16"), replace(BASE, precision="bf16", seed=1, learning_rate=1e-3)]
    for run, config in zip(bitfit.train_rows(backbone, data, "bitfit", configs), configs, strict=True):
        alone = bitfit.train(backbone, data, "bitfit", config)
        for one, other in zip(run.history, alone.history, strict=True):
            assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], rel=0.02)
            assert one["validation"]["loss"] == pytest.approx(other["validation"]["loss"], rel=0.02)


def test_what_is_no_configuration_backbone_or_task_is_named() -> None:
    backbone: Any = tiny_backbone("bert")
    anything: Any = 5
    with pytest.raises(RequestError, match="one TrainConfig for each row"):
        bitfit.train_rows(backbone, tiny_data(), "bitfit", [])
    with pytest.raises(RequestError, match="a TrainConfig or a dict of its settings; found 5"):
        bitfit.train(backbone, tiny_data(), "bitfit", anything)
    with pytest.raises(RequestError, match=r"bitfit\.load gives it, or a model's name or folder"):
        bitfit.train(anything, tiny_data())
    with pytest.raises(RequestError, match="a dict of columns, a pair"):
        bitfit.train(backbone, {"epochs": 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clip": float("inf")}, "clip must be 0 or more, and finite, found inf"),
        ({"weight_decay": float("nan")}, "weight_decay must be 0 or more, and finite, found nan"),
        ({"seed": 2**64}, "seed must be a whole number from 0 up to"),
        ({"learning_rate": "1e-3"}, "learning_rate must be above 0 and below 10, found '1e-3'"),
        ({"batch_size": 2.5, "epochs": 1.5}, "batch_size must be a whole number from 1 on, found 2.5; epochs"),
        ({"warmup": 1.0}, "warmup must be from 0 up to, not including, 1"),
        ({"patience": 0}, "patience must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        TrainConfig(**settings)


class Impatient(Notes):
    """Presses Ctrl-C after some steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        if step == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("after", "best"), [(1, 0), (4, 1)])
def test_an_interrupted_run_keeps_what_was_best_so_far(after: int, best: int) -> None:
    run = bitfit.train(tiny_backbone("bert"), tiny_data(), "bitfit", BASE, watcher=Impatient(after))
    assert run.stopped
    assert run.best_epoch == best
    assert len(run.history) == best


def test_an_interruption_while_a_test_is_read_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(*_: Any) -> Any:
        raise KeyboardInterrupt

    whole = bitfit.train(tiny_backbone("bert"), tiny_data(), "bitfit", BASE)
    monkeypatch.setattr(outcome, "outputs", impatient)
    run = bitfit.train(tiny_backbone("bert"), tiny_data(), "bitfit", BASE)
    assert run.stopped
    assert run.scores["validation"] == whole.scores["validation"]
    assert "test" not in run.scores


def test_an_interruption_between_runs_keeps_those_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    build, built = train.build, [0]

    def impatient(*arguments: Any) -> Any:
        built[0] += 1
        if built[0] == 2:  # the first is of all, to see what can share a pass, and then of the first run
            raise KeyboardInterrupt
        return build(*arguments)

    monkeypatch.setattr(train, "build", impatient)
    configs = [BASE, replace(BASE, seed=1)]
    runs = bitfit.train_rows(tiny_backbone("bert"), tiny_data(), "random-uniform", configs)
    assert [run.config.seed for run in runs] == [0]


def test_patience_ends_a_run_early() -> None:
    config = replace(BASE, learning_rate=0.5, epochs=30, patience=2)
    run = bitfit.train(tiny_backbone("bert"), tiny_data(), "bitfit", config)
    assert len(run.history) == run.best_epoch + 2 < 30


def test_an_inert_bias_stays_where_it_was() -> None:
    backbone = tiny_backbone("bert")
    run = bitfit.train(backbone, tiny_data(), "bitfit", replace(BASE, learning_rate=0.1))
    before: Mapping[str, Any] = dict(backbone.model.named_parameters())
    keys = [name for name in run.delta.values if name.endswith("key.bias")]
    assert len(keys) == 2
    for name in keys:
        assert np.array_equal(run.delta.values[name], before[name.removeprefix("bert.")].numpy())


def test_unlike_precisions_do_not_share_a_pass() -> None:
    configs = [replace(BASE, epochs=1), replace(BASE, epochs=1, precision="bf16")]
    notes = Notes()
    runs = bitfit.train_rows(tiny_backbone("bert"), tiny_data(), "bitfit", configs, watcher=notes)
    assert "bitfit on bert cannot share a pass: one run after another" in notes.notes
    assert [run.config.precision for run in runs] == ["fp32", "bf16"]


def test_images_train() -> None:
    """A dark or a bright picture."""
    generator = np.random.default_rng(0)

    def pictures(count: int) -> Examples:
        labels = generator.integers(0, 2, count)
        pixels = generator.normal(labels[:, None, None, None] * 2.0 - 1, 1, (count, 3, 16, 16)).astype(np.float32)
        ones = np.ones(count, np.int32)
        return Examples(ones, ones.astype(np.uint8), np.arange(count + 1), labels, source={"pixels": pixels})

    task = Task("light", "class", ("image",), "label", ("dark", "bright"))
    data = TaskData(task, {"train": pictures(40), "validation": pictures(20)})
    run = bitfit.train(tiny_backbone("vit"), data, "bitfit", replace(BASE, epochs=6))
    assert run.scores["validation"]["accuracy"] > 0.9
