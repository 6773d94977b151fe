"""Layers below all that trains read every example once; what they answer is kept within bounds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bitfit
from bitfit import TrainConfig
from bitfit.inference.outputs import batch_of
from bitfit.runtime.row_model import RowModel
from bitfit.training import checkpoint, frozen_prefix
from bitfit.training.checkpoint import Checkpoints
from bitfit.training.frozen_prefix import with_states
from bitfit.training.memory_estimate import estimate
from bitfit.training.recipe import Recipe
from bitfit.watcher import Watcher
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

CONFIG = TrainConfig(batch_size=6, epochs=3, learning_rate=1e-2, precision="fp32")
ABOUT = {"model": "tiny"}


class Noted(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def assert_alike(found: bitfit.Run, wanted: bitfit.Run) -> None:
    """The same values but for rounding."""
    for key, value in wanted.delta.values.items():
        np.testing.assert_allclose(found.delta.values[key], value, rtol=1e-3, atol=1e-5)


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
    model = RowModel(backbone.task_model(head), head, torch.float32)
    model.boundary = model.layers
    return model


@pytest.mark.parametrize("kind", ["class", "number", "tags"])
def test_what_is_kept_is_what_the_encoder_would_say(still: bitfit.Backbone, kind: str) -> None:
    model, data = model_of(still, kind), tiny_data(kind)
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
    still: bitfit.Backbone,
) -> None:
    kept = bitfit.train(still, tiny_data(), "frozen", CONFIG)
    anew = bitfit.train(still, tiny_data(), "frozen", replace(CONFIG, prefix_cache=False))
    assert_alike(kept, anew)


def test_a_method_that_reaches_into_the_encoder_reads_anew(still: bitfit.Backbone, cache: Path) -> None:
    bitfit.train(still, tiny_data(), "bitfit", CONFIG)
    assert not cache.exists()


def test_bf16_states_are_kept_as_they_are(still: bitfit.Backbone) -> None:
    head = tiny_data().task.head
    model = RowModel(still.task_model(head), head, torch.bfloat16)
    model.boundary = model.layers
    examples = with_states(tiny_data(), model, ABOUT, print).splits["test"]
    states = batch_of(examples, np.arange(len(examples)), (len(examples),)).states
    assert states is not None
    assert states.dtype == torch.bfloat16


def test_reading_that_was_killed_goes_on_where_it_was(still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = model_of(still, "class"), tiny_data()
    monkeypatch.setattr(frozen_prefix, "pass_tokens", lambda model: 20)
    monkeypatch.setattr(frozen_prefix, "NOTED_EVERY_S", 0.0)
    whole = with_states(data, model, {"model": "other"}, print).splits["train"].source["states"].values
    inner, left = frozen_prefix._next, [7]

    def killed(*given):  # type: ignore[no-untyped-def]
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return inner(*given)

    with monkeypatch.context() as patched:
        patched.setattr(frozen_prefix, "_next", killed)
        with pytest.raises(KeyboardInterrupt):
            with_states(data, model, ABOUT, print)
    counted = Counted(monkeypatch)
    again = with_states(data, model, ABOUT, print).splits["train"].source["states"].values
    np.testing.assert_array_equal(again, whole)
    assert counted.examples < sum(len(split) for split in data.splits.values())


def test_too_much_is_not_kept_and_that_is_said(
    still: bitfit.Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_prefix, "DISK_LIMIT", 1000)
    watcher = Noted()
    anew = bitfit.train(still, tiny_data(), "frozen", CONFIG, watcher=watcher)
    assert sum("each epoch computes it anew" in note for note in watcher.notes) == 3, "for each split"
    assert not cache.exists()
    monkeypatch.undo()
    monkeypatch.setenv("BITFIT_CACHE", str(cache.parent))
    assert_alike(anew, bitfit.train(still, tiny_data(), "frozen", CONFIG))


def test_what_fits_is_kept(still: bitfit.Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_data()
    train = len(data.splits["train"]) * 32 * 4
    monkeypatch.setattr(frozen_prefix, "DISK_LIMIT", train + 100)
    kept = with_states(data, model_of(still, "class"), ABOUT, print).splits
    assert [name for name, split in kept.items() if "states" in split.source] == ["train"]


def test_all_entries_together_stay_within_the_limit(
    still: bitfit.Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_of(still, "class"), tiny_data()
    one = sum(len(split) for split in data.splits.values()) * 32 * 4
    monkeypatch.setattr(frozen_prefix, "DISK_LIMIT", int(2.5 * one))
    for name in ("a", "b", "c", "d"):
        with_states(data, model, {"model": name}, print)
    size = sum(file.stat().st_size for file in cache.glob("*/values"))
    assert one <= size <= 2.5 * one


def test_a_damaged_cache_is_not_believed(still: bitfit.Backbone, cache: Path) -> None:
    whole = bitfit.train(still, tiny_data(), "frozen", CONFIG)
    for values in cache.glob("*/values"):
        found = values.read_bytes()
        values.write_bytes(bytes(len(found) // 2) + found[len(found) // 2 :])
    watcher = Noted()
    again = bitfit.train(still, tiny_data(), "frozen", CONFIG, watcher=watcher)
    assert again.delta.to_bytes() == whole.delta.to_bytes()
    assert sum("is damaged: all of it is computed anew" in note for note in watcher.notes) == 3, "for each split"


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


def test_neither_disk_nor_memory_takes_them_and_the_result_is_the_same(
    still: bitfit.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = bitfit.train(still, tiny_data(), "frozen", CONFIG)
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(frozen_prefix, "MEMORY_LIMIT", 100)
    watcher = Noted()
    after = bitfit.train(still, tiny_data(), "frozen", CONFIG, watcher=watcher)
    assert any(note.startswith("train: ") and "each epoch computes them anew" in note for note in watcher.notes)
    assert_alike(after, before)


# ---------------------------------------------------------------- where upper layers train

ASKED = replace(CONFIG, prefix_cache=True)
UPPER = "bitfit@last1"


@pytest.fixture(scope="module")
def loose() -> bitfit.Backbone:
    return tiny_backbone("bert", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)


@pytest.mark.parametrize("kind", ["class", "tags"])
def test_training_upper_layers_reads_each_example_once(
    still: bitfit.Backbone, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, counted, watcher = tiny_data(kind), Counted(monkeypatch), Noted()
    kept = bitfit.train(still, data, UPPER, ASKED, watcher=watcher)
    examples = sum(len(split) for split in data.splits.values())
    assert counted.examples == examples + 1, "one for the size"
    tokens = sum(int(split.offsets[-1]) for split in data.splits.values())
    assert "The lowest 1 of 2 layers have no dropout" in " ".join(watcher.notes)
    assert f"({tokens * 32 * 4 / 1e6:,.1f} MB of at most 4,295)" in " ".join(watcher.notes)
    assert_alike(kept, bitfit.train(still, data, UPPER, CONFIG))
    other = bitfit.train(still, data, "layernorm@last1", ASKED)
    assert counted.examples == examples + 2, "another method with the same layers below finds them"
    assert other.delta.values.keys() != kept.delta.values.keys()


def test_without_being_asked_upper_layers_train_with_dropout_below(loose: bitfit.Backbone, cache: Path) -> None:
    plain = bitfit.train(loose, tiny_data(), UPPER, CONFIG)
    assert not cache.exists()
    refused = bitfit.train(loose, tiny_data(), UPPER, replace(CONFIG, prefix_cache=False))
    assert {k: v.tobytes() for k, v in plain.delta.values.items()} == {
        k: v.tobytes() for k, v in refused.delta.values.items()
    }
    asked = bitfit.train(loose, tiny_data(), UPPER, ASKED)
    assert any((asked.delta.values[key] != value).any() for key, value in plain.delta.values.items())


def test_a_head_alone_can_have_dropout_below(loose: bitfit.Backbone, cache: Path) -> None:
    kept = bitfit.train(loose, tiny_data(), "frozen", CONFIG)
    anew = bitfit.train(loose, tiny_data(), "frozen", replace(CONFIG, prefix_cache=False))
    weight = "classifier.weight"
    assert np.abs(kept.delta.values[weight] - anew.delta.values[weight]).max() > 1e-3


def test_rows_of_a_grid_share_what_is_kept(loose: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    data, configs = tiny_data(), [replace(ASKED, seed=seed) for seed in range(3)]
    counted = Counted(monkeypatch)
    together = bitfit.train_rows(loose, data, UPPER, configs)
    assert counted.examples == sum(len(split) for split in data.splits.values()) + 1
    for config, run in zip(configs, together, strict=True):
        assert_alike(run, bitfit.train(loose, data, UPPER, config))


def test_rows_that_differ_in_it_train_one_after_another(loose: bitfit.Backbone) -> None:
    watcher, data = Noted(), tiny_data()
    first, second = bitfit.train_rows(loose, data, UPPER, [ASKED, CONFIG], watcher=watcher)
    assert any("one run after another" in note for note in watcher.notes)
    assert first.delta.to_bytes() != second.delta.to_bytes()
    assert_alike(second, bitfit.train(loose, data, UPPER, CONFIG))


@pytest.mark.parametrize(
    ("model_type", "method", "why"),
    [
        ("bert", "bitfit", "something trains in the lowest layer"),
        ("albert", "bitfit@0", "do not simply follow one another"),
        ("mpnet", "bitfit@last1", "padded batches"),
    ],
)
def test_what_cannot_take_part_runs_as_ever_and_says_so_once(
    model_type: str, method: str, why: str, cache: Path
) -> None:
    backbone, watcher = tiny_backbone(model_type), Noted()
    asked = bitfit.train(backbone, tiny_data(), method, replace(ASKED, epochs=1), watcher=watcher)
    assert sum(note.startswith("No prefix cache") and why in note for note in watcher.notes) == 1
    plain = bitfit.train(backbone, tiny_data(), method, replace(CONFIG, epochs=1))
    assert all((asked.delta.values[key] == value).all() for key, value in plain.delta.values.items())
    assert not cache.exists()


class Killed(BaseException):
    """Stands for a SIGKILL."""


class Killer(Watcher):
    """Ends the process, as it were, at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        if step == self.at:
            raise Killed


@pytest.mark.parametrize("at", [2, 5, 9])
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(
    loose: bitfit.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    whole = bitfit.train(loose, tiny_data(), UPPER, ASKED)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path / "another"))
    place = Checkpoints(tmp_path / "out.checkpoint", 1e-9)
    with pytest.raises(Killed):
        bitfit.train(loose, tiny_data(), UPPER, ASKED, watcher=Killer(at), checkpoints=place)
    again = bitfit.train(loose, tiny_data(), UPPER, ASKED, checkpoints=place)
    assert again.delta.to_bytes() == whole.delta.to_bytes()


def test_it_tells_one_run_from_another_but_not_from_runs_of_before_it_came() -> None:
    backbone, data = tiny_backbone("bert"), tiny_data()

    def asked(config: TrainConfig) -> Mapping[str, object]:
        return Recipe.of(backbone, data, bitfit.Method.parse(UPPER), [config]).asked()

    assert asked(CONFIG) != asked(ASKED) != asked(replace(CONFIG, prefix_cache=False))
    assert "prefix_cache" not in CONFIG.to_json()
    assert ASKED.to_json()["prefix_cache"] is True


def test_the_estimate_knows_what_is_kept(still: bitfit.Backbone, cache: Path) -> None:
    data = tiny_data()
    tokens = sum(int(split.offsets[-1]) for split in data.splits.values())
    texts = sum(len(split) for split in data.splits.values())
    assert estimate(still, data, UPPER, [CONFIG]).kept == 0
    assert estimate(still, data, UPPER, [ASKED]).kept == tokens * 32 * 4
    assert estimate(still, data, "frozen", [CONFIG]).kept == texts * 32 * 4
    assert not cache.exists()
