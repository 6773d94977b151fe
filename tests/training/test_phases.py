"""A run of two phases, killed in either, ends with the same bits; stopped in either, it keeps its half percent."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import bitfit
from bitfit.training import checkpoint
from bitfit.training.checkpoint import Checkpoints
from bitfit.training.run import best_run
from bitfit.watcher import Watcher
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

CONFIG = bitfit.TrainConfig(batch_size=6, epochs=2, learning_rate=3e-3, precision="fp32")
STEPS = 2 * 4  # of a phase, for 22 examples


class Ender(Watcher):
    """Raises something after so many steps."""

    def __init__(self, after: int, how: type[BaseException]) -> None:
        self.left, self.how = after, how

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.how

    def evaluated(self, row: int, epoch: int, scores: Mapping[str, float]) -> None:
        assert set(scores) > {"loss"}


class Killed(BaseException):
    """Stands for a SIGKILL."""


ONE_PHASE = [(method, after) for method in ("bitfit[auto:2%]", "lora") for after in (1, 5)]
TWO_PHASES = [
    (method, after)
    for method in ("diff-pruning", "diff-pruning[structured]")
    for after in (1, 5, STEPS, STEPS + 1, 2 * STEPS - 1)
]


@cache
def undisturbed(method: str) -> bitfit.Run:
    return bitfit.train(tiny_backbone("bert", hidden_dropout_prob=0.2), tiny_data(), method, CONFIG)


@pytest.mark.parametrize(("method", "after"), [*ONE_PHASE, *TWO_PHASES])
@pytest.mark.slow
def test_killed_in_any_phase_it_ends_with_the_same_bits(
    method: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)
    backbone = tiny_backbone("bert", hidden_dropout_prob=0.2)
    place = Checkpoints(tmp_path / "out.checkpoint", 1e-9)
    with pytest.raises(Killed):
        bitfit.train(backbone, tiny_data(), method, CONFIG, watcher=Ender(after, Killed), checkpoints=place)
    resumed = bitfit.train(backbone, tiny_data(), method, CONFIG, checkpoints=place)
    assert resumed.delta.to_bytes() == undisturbed(method).delta.to_bytes()
    assert resumed.history == undisturbed(method).history


def test_a_run_that_diverges_in_its_gates_does_not_end_its_grid() -> None:
    backbone, data = tiny_backbone("bert"), tiny_data()
    wild = replace(CONFIG, weight_decay=1e30, seed=1)  # its head soon holds what no number can say
    first, second = bitfit.train_rows(backbone, data, "diff-pruning", [wild, CONFIG])
    assert first.diverged is not None
    assert first.delta.settings["diverged"] == first.diverged
    assert not any("test" in scores for scores in first.scores)
    assert [epoch.get("phase") for epoch in first.history] in ([], ["gates"])
    first.delta.verify(backbone)
    alone = bitfit.train(backbone, data, "diff-pruning", CONFIG)
    assert second.diverged is None
    assert {key: value.tobytes() for key, value in second.delta.values.items()} == {
        key: value.tobytes() for key, value in alone.delta.values.items()
    }
    assert best_run([first, second]) == 1


@pytest.mark.parametrize("after", [3, STEPS + 3])
def test_stopped_by_the_user_it_keeps_what_there_is(after: int) -> None:
    backbone = tiny_backbone("bert")
    watcher = Ender(after, KeyboardInterrupt)
    run = bitfit.train(backbone, tiny_data(), "diff-pruning", CONFIG, watcher=watcher)
    assert run.stopped
    total = sum(parameter.numel() for parameter in backbone.model.parameters())
    assert sum(slot.size for slot in run.delta.slots if not slot.in_head) == round(0.005 * total)
    run.delta.verify(backbone)
