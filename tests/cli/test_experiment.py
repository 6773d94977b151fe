"""`bitfit experiment run`: one command from a plan to its folder, and an exit code that says if all is done."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitfit.backbone import load
from bitfit.cli import main
from bitfit.errors import RequestError
from tests.models import VOCABULARY, tiny_backbone


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan over one small file, with a tiny model in the place of the embedded one."""
    words = np.random.default_rng(1).integers(4, VOCABULARY, (60, 4))
    lines = [f"{' '.join(f'w{word}' for word in row)},{'high' if row[0] > 30 else 'low'}" for row in words]
    (tmp_path / "words.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "load", lambda name: tiny_backbone("bert"))
    write_plan(["words.csv"])
    return tmp_path


def write_plan(tasks: list[Any]) -> None:
    settings = "[settings]\nepochs = 1\nbatch_size = 8\nprecision = 'fp32'\n"
    head = f"name = 'words'\nseeds = [0]\nmethods = ['bitfit']\ntasks = {json.dumps(tasks)}\n"
    Path("plan.toml").write_text(head + settings)


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def act(*arguments: str) -> Done:
        code = main.run(["experiment", *(arguments or ("run", "plan.toml", "--out", "out"))])
        return Done(code, *capsys.readouterr())

    return act


Run = Callable[..., Done]


def test_a_plan_becomes_a_folder_that_can_be_reported(folder: Path, run: Run) -> None:
    done = run("run", "plan.toml", "--out", "out", "--json", "--keep-deltas")
    assert done.code == 0
    assert json.loads(done.stdout) == {
        "folder": "out",
        "planned": 1,
        "before": 0,
        "done": 1,
        "failed": {},
        "stopped": False,
    }
    assert "1 of 1: bitfit on words" in done.stderr
    assert [path.name for path in (folder / "out" / "runs").iterdir()] == ["words--bitfit--0.004--seed0.json"]
    assert len(list((folder / "out" / "deltas").iterdir())) == 1
    again = run()
    assert "Of 1 planned runs 1 were there, 0 are new, 0 failed." in again.stdout
    shown = run("report", "out")
    assert "| method | trained | words<br>" in shown.stdout


def test_a_failed_run_is_named_and_shows_in_the_exit_code(folder: Path, run: Run) -> None:
    write_plan(["words.csv", "nobody/nothing.csv"])
    done = run()
    assert done.code == 6
    assert "failed: nothing--bitfit--0.004--seed0" in done.stderr
    assert "Of 2 planned runs 0 were there, 1 are new, 1 failed." in done.stdout


def test_a_plan_that_was_stopped_says_how_it_goes_on(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bitfit.experiment.runner.train_rows", interrupted)
        done = run()
    assert done.code == 130
    assert "Stopped early: the same command goes on to the end." in done.stdout
    assert run().code == 0


def test_a_plan_that_cannot_be_used_is_refused_before_a_model_is_loaded(folder: Path, run: Run) -> None:
    write_plan(["words.cvs"])
    done = run()
    assert done.code == RequestError.exit_code
    assert "no task, file or folder named 'words.cvs'" in done.stderr
    assert not (folder / "out").exists()
