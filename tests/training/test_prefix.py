"""Where only the head trains, the encoder reads every example once; the values are kept within bounds."""

from pathlib import Path

import numpy as np
import pytest
import torch

import bitfit
from bitfit import TrainConfig
from bitfit.backbone.packed import RowModel
from bitfit.training import prefix
from bitfit.training.outputs import batch_of
from bitfit.training.prefix import with_states
from bitfit.training.watch import Watcher
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

CONFIG = TrainConfig(batch_size=6, epochs=3, learning_rate=1e-2, precision="fp32")
ABOUT = {"model": "tiny"}


class Noted(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def said(self, text: str) -> None:
        self.notes.append(text)


class Counted:
    """How often the encoder runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.examples = 0
        read = RowModel.read

        def counting(model: RowModel, batch):  # type: ignore[no-untyped-def]
            self.examples += len(batch.layout.lengths)
            return read(model, batch)

        monkeypatch.setattr(RowModel, "read", counting)


@pytest.fixture(scope="module")
def still() -> bitfit.Backbone:
    """Without dropout in the encoder, so that reading once changes nothing."""
    return tiny_backbone("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path))
    return tmp_path / "prefix"


def model_of(backbone: bitfit.Backbone, kind: str) -> RowModel:
    head = tiny_data(kind).task.head
    return RowModel(backbone.task_model(head), head, torch.float32)


@pytest.mark.parametrize("kind", ["class", "number", "tags"])
def test_what_is_kept_is_what_the_encoder_would_say(still: bitfit.Backbone, kind: str) -> None:
    model, data = model_of(still, kind).eval(), tiny_data(kind)
    kept = with_states(data, model, ABOUT, print)
    which = np.array([3, 0, 7, 8])
    for split, examples in kept.splits.items():
        batch = batch_of(examples, which, (4,))
        assert batch.states is not None
        plain = batch_of(data.splits[split], which, (4,))
        assert plain.states is None
        with torch.no_grad():
            torch.testing.assert_close(batch.states, model.read(plain), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(model.answers(batch, {}), model.answers(plain, {}), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["class", "tags"])
def test_training_the_head_reads_each_example_once(
    still: bitfit.Backbone, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, counted = tiny_data(kind), Counted(monkeypatch)
    first = bitfit.train(still, data, "frozen", CONFIG)
    assert counted.examples <= sum(len(split) for split in data.splits.values()) + 1  # one for the size
    again = bitfit.train(still, data, "frozen", CONFIG)
    assert counted.examples <= sum(len(split) for split in data.splits.values()) + 2, "kept for the next run"
    assert again.delta.to_bytes() == first.delta.to_bytes()


def test_without_dropout_in_the_encoder_it_changes_nothing(
    still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = bitfit.train(still, tiny_data(), "frozen", CONFIG)
    monkeypatch.setattr(RowModel, "head_alone", lambda model, names: False)
    anew = bitfit.train(still, tiny_data(), "frozen", CONFIG)
    for key, value in anew.delta.values.items():
        np.testing.assert_allclose(kept.delta.values[key], value, rtol=1e-3, atol=1e-5)


def test_a_method_that_reaches_into_the_encoder_reads_anew(still: bitfit.Backbone, cache: Path) -> None:
    bitfit.train(still, tiny_data(), "bitfit", CONFIG)
    assert not cache.exists()


def test_bf16_states_are_kept_as_they_are(still: bitfit.Backbone) -> None:
    head = tiny_data().task.head
    model = RowModel(still.task_model(head), head, torch.bfloat16).eval()
    examples = with_states(tiny_data(), model, ABOUT, print).splits["test"]
    states = batch_of(examples, np.arange(len(examples)), (len(examples),)).states
    assert states is not None
    assert states.dtype == torch.bfloat16


def test_reading_that_was_killed_goes_on_where_it_was(still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = model_of(still, "class"), tiny_data()
    monkeypatch.setattr(prefix, "TOKENS_A_PASS", 20)
    monkeypatch.setattr(prefix, "NOTED_EVERY_S", 0.0)
    whole = with_states(data, model, {"model": "other"}, print).splits["train"].source["states"].values
    inner, left = prefix._next, [7]

    def killed(*given):  # type: ignore[no-untyped-def]
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return inner(*given)

    with monkeypatch.context() as patched:
        patched.setattr(prefix, "_next", killed)
        with pytest.raises(KeyboardInterrupt):
            with_states(data, model, ABOUT, print)
    counted = Counted(monkeypatch)
    again = with_states(data, model, ABOUT, print).splits["train"].source["states"].values
    np.testing.assert_array_equal(again, whole)
    assert counted.examples < sum(len(split) for split in data.splits.values())


def test_too_much_is_not_kept_and_that_is_said(
    still: bitfit.Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "DISK_LIMIT", 1000)
    watcher = Noted()
    bitfit.train(still, tiny_data(), "frozen", CONFIG, watcher=watcher)
    assert any("each epoch computes them anew" in note for note in watcher.notes)
    assert not cache.exists()


def test_all_entries_together_stay_within_the_limit(
    still: bitfit.Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_of(still, "class"), tiny_data()
    one = sum(len(split) for split in data.splits.values()) * 32 * 4
    monkeypatch.setattr(prefix, "DISK_LIMIT", int(2.5 * one))
    for name in ("a", "b", "c", "d"):
        with_states(data, model, {"model": name}, print)
    size = sum(file.stat().st_size for file in cache.glob("*/values"))
    assert one <= size <= 2.5 * one


def test_a_cache_that_cannot_be_written_is_replaced_by_memory(
    still: bitfit.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = bitfit.train(still, tiny_data(), "frozen", CONFIG)
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path / "file"))
    watcher = Noted()
    after = bitfit.train(still, tiny_data(), "frozen", CONFIG, watcher=watcher)
    assert any("kept in memory" in note for note in watcher.notes)
    assert after.delta.to_bytes() == before.delta.to_bytes()
