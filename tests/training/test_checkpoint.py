"""A run that was killed goes on to the same bits; damage, strangers and full disks are told apart."""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import bitfit
from bitfit import TrainConfig, files
from bitfit.errors import BitfitError, RequestError, TrainingError
from bitfit.training import checkpoint
from bitfit.training.checkpoint import Checkpoints, CheckpointWriter, State
from bitfit.watcher import Watcher
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the loop may catch it."""


class Killer(Watcher):
    """Ends the process, as it were, at the n-th thing that it hears of."""

    def __init__(self, after: int) -> None:
        self.left, self.notes, self.steps = after, [], 0

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        self.steps += 1
        self._count()

    def evaluated(self, row: int, epoch: int, scores: Mapping[str, float]) -> None:
        self._count()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.fixture(scope="module")
def backbone() -> bitfit.Backbone:
    return tiny_backbone("bert", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step, whatever it costs."""
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)


def place(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "out.checkpoint", 1e-9)


def result(runs: Sequence[bitfit.Run]) -> list[tuple[bytes, list[Mapping[str, object]]]]:
    return [(run.delta.to_bytes(), [dict(epoch) for epoch in run.history]) for run in runs]


ONE = [TrainConfig(batch_size=6, epochs=3, learning_rate=3e-3, precision="fp32")]
ROWS = [  # they end one after another, the last but one by its patience
    TrainConfig(batch_size=6, epochs=2, learning_rate=3e-3, precision="fp32"),
    TrainConfig(batch_size=8, epochs=9, learning_rate=0.5, seed=1, patience=1, precision="fp32"),
    TrainConfig(batch_size=6, epochs=3, learning_rate=1e-2, seed=2, precision="fp32"),
]


WILD = TrainConfig(batch_size=6, epochs=2, learning_rate=3e-3, weight_decay=1e30, seed=3, precision="fp32")


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("configs", "method", "kind"),
    [
        (ONE, "bitfit", "class"),
        (ROWS, "bitfit", "class"),
        (ONE, "full", "number"),
        (ROWS[:2], "frozen", "tags"),
        (ROWS[::2], "frozen", "labels"),
        ([ROWS[2], WILD], "bitfit", "class"),
    ],
    ids=["one-row", "rows", "full", "tags", "labels", "a-row-that-diverges"],
)
@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_with_the_same_bits(
    backbone: bitfit.Backbone, tmp_path: Path, configs: list[TrainConfig], method: str, kind: str
) -> None:
    data, places = tiny_data(kind), place(tmp_path)
    watcher = Killer(0)
    undisturbed = result(bitfit.train_rows(backbone, data, method, configs, watcher=watcher))
    moments = -watcher.left
    assert moments > watcher.steps > 8
    for moment in range(1, moments + 1):
        with pytest.raises(Killed):
            bitfit.train_rows(backbone, data, method, configs, watcher=Killer(moment), checkpoints=places)
        second = Killer(0)
        resumed = bitfit.train_rows(backbone, data, method, configs, watcher=second, checkpoints=places)
        assert result(resumed) == undisturbed, f"killed at moment {moment}"
        assert second.steps < watcher.steps or moment == 1
        places.remove()


@pytest.mark.usefixtures("always")
@pytest.mark.slow
def test_a_run_killed_again_and_again_comes_to_its_end(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    data, places = tiny_data(), place(tmp_path)
    undisturbed = result(bitfit.train_rows(backbone, data, "bitfit", ROWS))
    lives = 0
    while True:
        lives += 1
        try:
            runs = bitfit.train_rows(backbone, data, "bitfit", ROWS, watcher=Killer(5), checkpoints=places)
            break
        except Killed:
            continue
    assert lives > 4
    assert result(runs) == undisturbed


@pytest.mark.usefixtures("always")
def test_a_finished_training_is_not_trained_again(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    data, places = tiny_data(), place(tmp_path)
    first = bitfit.train_rows(backbone, data, "bitfit", ONE, checkpoints=places)
    watcher = Killer(0)
    again = bitfit.train_rows(backbone, data, "bitfit", ONE, watcher=watcher, checkpoints=places)
    assert watcher.steps == 0
    assert result(again) == result(first)


@pytest.mark.usefixtures("always")
def test_rows_that_follow_one_another_keep_their_own_place(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    data, places = tiny_data(), place(tmp_path)
    configs = [ONE[0], TrainConfig(batch_size=6, epochs=3, learning_rate=1e-3, seed=1, precision="fp32")]
    undisturbed = result(bitfit.train_rows(backbone, data, "full", configs))
    with pytest.raises(Killed):
        bitfit.train_rows(backbone, data, "full", configs, watcher=Killer(20), checkpoints=places)
    watcher = Killer(0)
    runs = bitfit.train_rows(backbone, data, "full", configs, watcher=watcher, checkpoints=places)
    assert watcher.steps < 12  # of 24: the first run's are all there
    assert result(runs) == undisturbed


@pytest.mark.usefixtures("always")
def test_only_the_last_two_are_kept_and_nothing_half_written(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    places = place(tmp_path)
    places.folder.mkdir()
    (places.folder / ".step-0000000001.safetensors.abcd.part").write_bytes(b"half")
    bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=places)
    assert sorted(p.name for p in places.folder.iterdir()) == [
        "lock",
        "step-0000000011.safetensors",
        "step-0000000012.safetensors",
    ]
    places.remove()
    assert not places.folder.exists()


def damaged_by_cutting(data: bytes) -> bytes:
    return data[:-100]


def damaged_by_a_flipped_bit(data: bytes) -> bytes:
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


def damaged_in_the_table(data: bytes) -> bytes:
    assert data.count(b'"mean"') == 1
    return data.replace(b'"mean"', b'"meat"')


def damaged_in_the_document(data: bytes) -> bytes:
    return data.replace(b"fp32", b"xp32")


def damaged_by_emptying(data: bytes) -> bytes:
    return b""


DAMAGES = [
    damaged_by_cutting,
    damaged_by_a_flipped_bit,
    damaged_in_the_table,
    damaged_in_the_document,
    damaged_by_emptying,
]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("damage", DAMAGES)
def test_from_a_damaged_checkpoint_it_goes_back_to_the_one_before(  # type: ignore[no-untyped-def]
    backbone: bitfit.Backbone, tmp_path: Path, damage
) -> None:
    data, places = tiny_data(), place(tmp_path)
    undisturbed = result(bitfit.train_rows(backbone, data, "bitfit", ONE))
    with pytest.raises(Killed):
        bitfit.train_rows(backbone, data, "bitfit", ONE, watcher=Killer(8), checkpoints=places)
    newest = max(places.folder.glob("step-*"))
    newest.write_bytes(damage(newest.read_bytes()))
    watcher = Killer(0)
    runs = bitfit.train_rows(backbone, data, "bitfit", ONE, watcher=watcher, checkpoints=places)
    assert result(runs) == undisturbed
    assert any("is damaged" in note and newest.name in note for note in watcher.notes)


@pytest.mark.usefixtures("always")
def test_where_every_checkpoint_is_damaged_it_begins_anew(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    data, places, watcher = tiny_data(), place(tmp_path), Killer(0)
    undisturbed = result(bitfit.train_rows(backbone, data, "bitfit", ONE, checkpoints=places))
    for path in places.folder.glob("step-*"):
        path.write_bytes(damaged_in_the_document(path.read_bytes()))
    assert places.maybe_get_about() is None
    runs = bitfit.train_rows(backbone, data, "bitfit", ONE, watcher=watcher, checkpoints=places)
    assert result(runs) == undisturbed
    assert "No checkpoint is whole: starting from the beginning" in watcher.notes


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("method", "config", "named"),
    [
        ("bitfit[b_q]", ONE[0], 'method: "bitfit" there, "bitfit[b_q]" here'),
        ("bitfit", TrainConfig(batch_size=6, learning_rate=4e-4, precision="fp32"), "0.003 there, 0.0004 here"),
    ],
)
def test_another_runs_checkpoint_is_refused_with_both_named(
    backbone: bitfit.Backbone, tmp_path: Path, method: str, config: TrainConfig, named: str
) -> None:
    places = place(tmp_path)
    bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=places)
    with pytest.raises(RequestError, match=r"`Checkpoints\.remove\(\)`") as refused:
        bitfit.train_rows(backbone, tiny_data(), method, [config], checkpoints=places)
    assert named in str(refused.value)


@pytest.mark.usefixtures("always")
def test_other_data_or_another_backbone_is_another_run(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    places = place(tmp_path)
    bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=places)
    with pytest.raises(RequestError, match="data train: "):
        bitfit.train_rows(backbone, tiny_data(train=20), "bitfit", ONE, checkpoints=places)
    with pytest.raises(RequestError, match=r"model: .*tiny-bert .* there, .*tiny-roberta"):
        bitfit.train_rows(tiny_backbone("roberta"), tiny_data(), "bitfit", ONE, checkpoints=places)


@pytest.mark.usefixtures("always")
def test_a_full_disk_ends_the_run_and_loses_nothing(
    backbone: bitfit.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, places = tiny_data(), place(tmp_path)
    undisturbed = result(bitfit.train_rows(backbone, data, "bitfit", ONE))
    written, sync = [], os.fsync

    def full_after_eleven(handle: int) -> None:  # two calls a checkpoint: the file and its folder
        written.append(handle)
        if len(written) > 11:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full_after_eleven)
        with pytest.raises(TrainingError, match=r"No space left .* give the same command again") as full:
            bitfit.train_rows(backbone, data, "bitfit", ONE, checkpoints=places)
    assert isinstance(full.value, BitfitError)
    assert [p.suffix for p in places.folder.glob("*step*")] == [".safetensors"], "the newest stays, no part is left"
    watcher = Killer(0)
    assert result(bitfit.train_rows(backbone, data, "bitfit", ONE, watcher=watcher, checkpoints=places)) == undisturbed
    assert watcher.steps < 12


@pytest.mark.usefixtures("always")
def test_a_disk_that_is_full_at_once_is_told_so(
    backbone: bitfit.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TrainingError, match="goes on from its beginning, since this was the first checkpoint"):
        bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=place(tmp_path))


@pytest.mark.parametrize("every", [float("nan"), float("inf"), -1.0])
def test_seconds_between_checkpoints_are_a_number(tmp_path: Path, every: float) -> None:
    with pytest.raises(RequestError, match="0 or more seconds"):
        Checkpoints(tmp_path, every)


def test_their_folder_may_be_a_text(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    there = Checkpoints(str(tmp_path / "c"), 1e-9)  # type: ignore[arg-type]
    bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=there)
    assert there.exist


def test_a_folder_that_cannot_be_made_is_told_before_training(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"`Checkpoints\(every=0\)`"):
        bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=Checkpoints(tmp_path / "file" / "in"))


def test_two_processes_do_not_train_the_same_run(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    writer = CheckpointWriter(place(tmp_path), {}, {}, print)
    with pytest.raises(TrainingError, match="Another process"):
        bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=place(tmp_path))
    writer.close()


def test_none_are_written_where_none_are_wanted(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=Checkpoints(tmp_path / "c", 0))
    assert not (tmp_path / "c").exists()


def test_large_states_are_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    writer = CheckpointWriter(Checkpoints(tmp_path / "c", 5.0), {}, {}, print)
    state = State({}, {"theta": np.zeros(100, np.float32)})
    written = []

    def slow(path: Path, parts: object) -> None:
        written.append(clock[0])
        clock[0] += 1.0  # second

    monkeypatch.setattr(checkpoint, "write_whole", slow)
    for step in range(10000):
        clock[0] += 0.1
        writer.write_when_due(step, lambda: state)
    assert len(written) / clock[0] < 0.01
    assert len(written) >= 7
    assert written[0] == pytest.approx(5.0, abs=0.2), "until one has been written, its size says what it will cost"


def test_what_was_measured_of_the_processor_holds_for_the_whole_run(tmp_path: Path) -> None:
    places = Checkpoints(tmp_path / "c", 5.0)
    assert places.maybe_get_about() is None
    places.folder.mkdir()
    state = State({}, {"theta": np.zeros(4, np.float32)})
    about = {"format": 1, "asked": {}, "surroundings": {"compute": "bf16"}}
    files.write_whole(places.folder / "step-0000000001.safetensors", checkpoint.pieces(about, state))
    assert places.maybe_get_about() == {"asked": {}, "surroundings": {"compute": "bf16"}}
    assert places.exist


@pytest.mark.usefixtures("always")
def test_a_checkpoint_of_another_kind_of_device_is_refused(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, watcher=Killer(4), checkpoints=place(tmp_path))
    path = max(place(tmp_path).folder.glob("step-*"))
    about, state = checkpoint.read(path)
    elsewhere = State({**state.facts, "device": "cuda"}, state.tensors)
    files.write_whole(path, checkpoint.pieces(about, elsewhere))
    with pytest.raises(RequestError, match=r"taken on the device 'cuda', .* on 'cpu'.* `device='cuda'`.*`Checkpoints"):
        bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=place(tmp_path))


@pytest.mark.usefixtures("always")
def test_a_run_that_began_on_a_gpu_looks_for_one_again(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, watcher=Killer(4), checkpoints=place(tmp_path))
    for path in place(tmp_path).folder.glob("step-*"):
        about, state = checkpoint.read(path)
        about["surroundings"]["device"] = "cuda"
        files.write_whole(path, checkpoint.pieces(about, state))
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="'cuda' was asked for"):
            bitfit.train_rows(backbone, tiny_data(), "bitfit", ONE, checkpoints=place(tmp_path))
