"""What is shown of a run while it trains: a bar on a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from bitfit.cli import progress
from bitfit.cli.progress import Shown


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    """All that a run of two epochs shows."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    monkeypatch.setattr(progress, "log", lambda: console)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Shown("7,469 of 9,815") as watcher:
        watcher.started(4, 1)
        watcher.evaluated(0, 1, {})  # of a stage without a head
        for step in range(1, 5):
            watcher.stepped(step, 0.5, 100 * step)
            if step % 2 == 0:
                watcher.evaluated(0, step // 2, {"loss": 0.6, "accuracy": 0.75, "f1": 0.7})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_bar_has_loss_metric_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    assert "loss 0.5000  accuracy 0.7500" in text
    assert "tokens/s" in text
    assert "0:00:00" in text


def test_a_second_training_begins_its_own_bar_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(progress, "log", lambda: console)
    with Shown() as watcher:
        watcher.started(4, 1)
        watcher.resumed(3, 10**9)  # by the process that was killed
        watcher.stepped(4, 9.0, 10**9 + 100)
        watcher.started(8, 1)
        watcher.stepped(1, 0.5, 100)
        [task] = watcher.bar.tasks
    assert (task.completed, task.total, task.fields["loss"]) == (1, 8, 0.5)
    assert task.fields["rate"] > 0


def test_elsewhere_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("step 1 of 4  loss 0.5000")
    assert lines[0].endswith("s left")
    assert "epoch 1: validation (7,469 of 9,815): loss 0.6000  accuracy 0.7500  f1 0.7000" in lines
    assert not any("\x1b" in line for line in lines)
