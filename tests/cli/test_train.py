"""`bitfit train` as a user meets it: a file, a finished file, another run's file, an interruption."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitfit
from bitfit.cli.main import run
from bitfit.cli.progress import Shown
from bitfit.training import checkpoint, memory_estimate, race
from bitfit.training.checkpoint import Checkpoints
from tests.models import tiny_backbone

ROWS = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    backbone = tiny_backbone("bert")
    assert backbone.tokenizer is not None
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for name, size in (("train", ROWS), ("validation", 12), ("test", 12)):
        words = draw.integers(4, 64, (size, 5))
        lines = [f"{' '.join(f'w{word}' for word in row)},{'high' if row[0] > 32 else 'low'}" for row in words]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return str(folder)


@pytest.fixture
def command(model: str, data: str, tmp_path: Path) -> list[str]:
    out = str(tmp_path / "out.safetensors")
    return ["train", data, "--model", model, "--epochs", "2", "--batch-size", "8", "--out", out, "--json"]


def told(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_too_little_memory_is_said_and_training_goes_on(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_estimate, "_available", lambda device: 10_000_000)
    assert run(command) == 0
    document, said = told(capsys)
    assert Path(document["delta"]).exists()
    assert "the machine has 10 MB free" in " ".join(said.split())


def test_it_writes_the_file_and_leaves_nothing_else(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 0
    document, _ = told(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
    assert document["measured_on"] == {"train": ROWS, "validation": 12, "test": 12}
    assert run(["delta", "show", document["delta"]]) == 0
    assert " % (of 12 rows)" in capsys.readouterr().out
    assert set(document["scores"]) == {"train", "validation", "test"}
    assert document["delta"].endswith("out.safetensors")
    assert len(document["history"]) == 2


def test_the_score_on_train_is_told_as_the_running_one(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([word for word in command if word != "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"train ({ROWS}), while it learnt, with dropout: accuracy 0.") for line in lines)
    assert any(line.startswith("validation (12): accuracy 0.") for line in lines)


def test_an_estimate_says_of_the_data_what_training_says(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*[word for word in command if word != "--json"], "--estimate"]) == 0
    said = capsys.readouterr()
    assert "kind of task: class" in said.err
    assert "Memory, about" in said.out
    first = said.out.splitlines()[1]
    assert first.strip()  # no blank header under the title


def test_the_same_command_on_a_finished_file_trains_nothing_and_says_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(command)
    first, _ = told(capsys)
    before = (tmp_path / "out.safetensors").stat()
    for extra in ([], ["--resume"]):
        assert run([*command, *extra]) == 0
        again, log = told(capsys)
        assert "finished" in log
        assert "--overwrite" in log
        assert again["finished_before"] is True
        assert {name: again[name] for name in ("scores", "trainable", "parameters", "settings", "method")} == {
            name: first[name] for name in ("scores", "trainable", "parameters", "settings", "method")
        }
        assert list(again["scores"]) == list(first["scores"]) == ["train", "validation", "test"]
        assert [*map(list, again["scores"].values())] == [*map(list, first["scores"].values())]
    assert (tmp_path / "out.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    assert run([*command, "--overwrite"]) == 0
    anew, _ = told(capsys)
    assert "finished_before" not in anew
    assert (tmp_path / "out.safetensors").stat().st_mtime_ns > before.st_mtime_ns


def test_a_finished_file_of_an_older_version_says_its_rows_in_words(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(command)
    path = tmp_path / "out.safetensors"
    delta = bitfit.Delta.load(path)
    assert delta.settings["measured_on"] == {"train": ROWS, "validation": 12, "test": 12}
    words = {"train": "40", "validation": "12", "test": "7,469 of 9,815"}
    replace(delta, settings={**delta.settings, "measured_on": words}).save(path)
    capsys.readouterr()
    assert run(command) == 0
    document, _ = told(capsys)
    assert document["measured_on"] == {"train": 40, "validation": 12, "test": {"rows": 7469, "of": 9815}}


def test_another_runs_file_is_not_overwritten_unasked(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(command)
    before = (tmp_path / "out.safetensors").read_bytes()
    capsys.readouterr()
    assert run([*command, "--learning-rate", "4e-4"]) == 2
    message = capsys.readouterr().err
    assert "learning_rate: 0.004 there, 0.0004 here" in message
    assert "--overwrite" in message
    assert (tmp_path / "out.safetensors").read_bytes() == before
    assert run([*command, "--learning-rate", "4e-4", "--overwrite"]) == 0
    assert (tmp_path / "out.safetensors").read_bytes() != before


def test_a_file_that_is_no_delta_is_not_overwritten_unasked(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.safetensors").write_text("my thesis")
    assert run(command) == 2
    assert "no delta" in capsys.readouterr().err
    assert (tmp_path / "out.safetensors").read_text() == "my thesis"


def test_resume_without_a_checkpoint_says_so_and_begins(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--resume"]) == 0
    assert "no checkpoint" in told(capsys)[1]


def test_nothing_is_trained_where_no_file_can_be(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(command[command.index("--out") + 1]).parent
    for out, words in ((folder, "is a folder. Give --out"), (folder / "no" / "file", "Make it first")):
        assert run([*command, "--out", str(out)]) == 2
        assert words in capsys.readouterr().err


def test_a_rate_out_of_range_is_told_the_range(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for rate in ("0", "nan", "1e30"):
        assert run([*command, "--learning-rate", rate]) == 2
        assert "above 0 and below 10, found" in capsys.readouterr().err


def test_the_log_has_no_empty_lines(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 0
    assert all(line.strip() for line in told(capsys)[1].splitlines())


def test_the_papers_recipe_gives_way_to_what_is_said(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "paper.safetensors"
    assert run([*command, "--recipe", "paper", "--epochs", "1", "--out", str(out), "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["schedule"], settings["warmup"], settings["weight_decay"]) == ("constant", 0.0, 0.0)
    assert settings["epochs"] == 1


def test_a_grid_keeps_the_best(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--learning-rate", "1e-5,1e-2", "--seed", "0,1"]) == 0
    document, _ = told(capsys)
    assert len(document["grid"]) == 4
    best = max(one["scores"]["validation"]["accuracy"] for one in document["grid"])
    assert document["scores"]["validation"]["accuracy"] == best
    assert bitfit.Delta.load(tmp_path / "out.safetensors").settings["seed"] == document["settings"]["seed"]


# The signal comes from within, at a step after the first checkpoint: another process may be late on a busy machine.
# A shell's background job is started deaf to Ctrl-C, and its children with it: the tests may be one.
INTERRUPTS_ITSELF = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from bitfit.cli.main import main
from bitfit.cli.progress import Shown
from bitfit.training import checkpoint
checkpoint.MOST_SHARE = 1e9  # a checkpoint after every step, whatever it costs
def stepped(self, step, loss, tokens):
    if step > {after} and any(Path({folder!r}).glob("step-*")):
        signal.raise_signal({number})
Shown.stepped = stepped
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.slow
def test_an_interrupted_run_saves_the_best_so_far_and_goes_on_later(
    command: list[str], tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = [*command, "--epochs", "4", "--checkpoint-every", "1e-9"]
    checkpoints = tmp_path / "out.safetensors.checkpoint"
    script = INTERRUPTS_ITSELF.format(folder=str(checkpoints), number=int(number), after=ROWS // 8 + 1)
    child = subprocess.run([sys.executable, "-c", script, *longer], capture_output=True, text=True, timeout=300)
    out, log = child.stdout, child.stderr
    assert child.returncode == 130, log
    assert json.loads(out)["stopped"] is True
    assert "what was best so far" in log
    assert bitfit.Delta.load(tmp_path / "out.safetensors").settings["stopped"] is True
    assert any(checkpoints.glob("step-*"))
    # The same command goes on; the whole run alone comes to the same file.
    other = str(tmp_path / "whole.safetensors")
    assert run(longer) == 0
    assert "going on from step" in told(capsys)[1]
    assert run([*longer, "--out", other]) == 0
    assert (tmp_path / "out.safetensors").read_bytes() == Path(other).read_bytes()
    assert not checkpoints.exists()


def test_overwrite_starts_afresh_but_takes_nothing_from_a_run_under_way(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)
    monkeypatch.setattr(Checkpoints, "remove", lambda places: None)
    assert run([*command, "--checkpoint-every", "1e-9"]) == 0  # it leaves its checkpoints, as one killed at the end
    monkeypatch.undo()
    folder = tmp_path / "out.safetensors.checkpoint"
    left = {path.name for path in folder.glob("step-*")}
    assert left
    capsys.readouterr()
    with Checkpoints(folder).alone():
        assert run([*command, "--seed", "5", "--overwrite"]) == 6
    assert "Another process" in capsys.readouterr().err
    assert {path.name for path in folder.glob("step-*")} == left
    assert run([*command, "--overwrite"]) == 0
    assert "going on" not in told(capsys)[1]


def test_without_checkpoints_too_a_file_has_one_run_at_a_time(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = Checkpoints(tmp_path / "out.safetensors.checkpoint")
    with places.alone():
        assert run([*command, "--checkpoint-every", "0"]) == 6
    assert "Another process" in capsys.readouterr().err
    assert not places.folder.exists()
    assert run([*command, "--checkpoint-every", "0"]) == 0
    assert not places.folder.exists()


def test_stopped_without_a_checkpoint_nothing_is_promised(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def impatient(shown: Shown, step: int, loss: float, tokens: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Shown, "stepped", impatient)
    assert run([*command, "--checkpoint-every", "0"]) == 130
    assert "It left no checkpoint to go on from." in " ".join(capsys.readouterr().err.split())


def test_a_grid_names_the_row_that_diverged(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    plain = [part for part in command if part != "--json"]
    assert run([*plain, "--learning-rate", "1e-20,1e-3", "--weight-decay", "1e22"]) == 0
    captured = capsys.readouterr()
    assert "row 2 leaves the grid: The loss became" in captured.err
    ends = [line.split()[-1] for line in captured.out.splitlines() if line.split()[:1] in (["1e-20"], ["0.001"])]
    assert ends == ["best", "diverged"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", ""], "--seed takes numbers with commas between them; found ''"),
        (["--clip", "inf"], "clip must be 0 or more, and finite"),
        (["--checkpoint-every", "nan"], "0 or more seconds between two checkpoints"),
    ],
)
def test_settings_that_cannot_be_are_told(
    command: list[str], options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, *options]) == 2
    assert words in capsys.readouterr().err


def test_a_disk_that_is_full_at_the_end_loses_nothing(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bitfit.delta import storage
    from bitfit.training import checkpoint

    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e9)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(storage.files, "write_whole", full)
        assert run(command) == 6
    message = capsys.readouterr().err
    assert "No space left" in message
    assert "the same command again" in message
    assert run(command) == 0
    document, log = told(capsys)
    assert "going on from step 10 of 10" in log
    assert len(document["history"]) == 2


def test_the_estimate_is_told_and_nothing_is_trained(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--estimate"]) == 0
    found, _ = told(capsys)
    assert found["fits"] is True
    assert found["total"] == found["loaded"] + found["needed"]
    assert found["tokens_a_pass"] == 8 * 7  # five words and two special pieces each
    assert not list(tmp_path.iterdir())
    assert run([*command[:-1], "--estimate"]) == 0
    assert "MB" in capsys.readouterr().out


def test_the_prefix_cache_is_part_of_what_a_file_answers(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path / "cache"))
    command = [*command, "--method", "bitfit@last1", "--precision", "fp32"]
    assert run([*command, "--prefix-cache"]) == 0
    document, log = told(capsys)
    assert document["settings"]["prefix_cache"] is True
    assert "The lowest 1 of 2 layers have no dropout" in log
    assert run([*command, "--prefix-cache"]) == 0
    assert told(capsys)[0]["finished_before"] is True
    assert run(command) == 2
    assert "prefix_cache" in capsys.readouterr().err
    assert run([*command, "--overwrite"]) == 0
    assert "prefix_cache" not in told(capsys)[0]["settings"]
    assert run(command) == 0, "a file without the setting is known again"
    assert told(capsys)[0]["finished_before"] is True
    assert run([*command, "--estimate", "--prefix-cache"]) == 0
    assert told(capsys)[0]["kept"] == (ROWS + 12 + 12) * 7 * 32 * 4


def test_the_rivals_are_said_beside_the_score_and_a_finished_file_says_the_same(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(number % 30 + 4, number % 7 + 4) for number in range(150)]
    rows = [f"w{one} w{other},low\nw{one + 30} w{other + 30},high" for one, other in pairs]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows, ""]))
    out = tmp_path / "out.safetensors"
    options = ["--model", model, "--epochs", "1", "--learning-rate", "1e-6"]
    command = ["train", str(tmp_path / "rows.csv"), *options, "--out", str(out)]
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("bitfit ") and "probe" in line)
    assert lines[at].endswith("(validation accuracy)")
    assert lines[at + 1].startswith("BF001 warning: frozen probe and TF-IDF are better than bitfit on validation. Try ")
    assert run(command) == 0
    assert set(lines[at : at + 2]) < set(capsys.readouterr().out.splitlines())
    assert run([*command, "--json"]) == 0
    document = told(capsys)[0]
    assert set(document["baselines"]) == {"frozen probe", "TF-IDF"}
    assert document["findings"][0]["code"] == "BF001"
    assert run([*command, "--json", "--no-baselines", "--overwrite"]) == 0
    assert told(capsys)[0]["baselines"] == {}


def test_the_end_says_what_the_score_on_validation_is_made_of(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command[:-1]) == 0
    said = capsys.readouterr().out
    for words in ("95 % interval of accuracy on validation: ", "expected calibration error", "precision", "support"):
        assert words in said
    assert run([*command, "--overwrite"]) == 0
    document, _ = told(capsys)
    found = document["validation"]
    assert found["scores"] == document["scores"]["validation"]
    assert [one["label"] for one in found["report"]["classes"]] == ["high", "low"]
    assert found["interval"][0] <= found["scores"]["accuracy"] <= found["interval"][1]
    assert document["threshold"] is None
    assert run(command) == 0
    again, _ = told(capsys)
    assert again["finished_before"] is True
    assert again["validation"]["report"]["confusion"] == found["report"]["confusion"]
    assert again["validation"]["interval"] == pytest.approx(found["interval"], abs=1e-4)
    assert "threshold" not in bitfit.Delta.load(document["delta"]).settings["calibration"]


def test_the_threshold_of_a_precision_is_kept_in_the_file(
    command: list[str], model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--precision-at", "0.1"]) == 0
    document, _ = told(capsys)
    assert document["threshold"]["confidence"] == 0, "all answers together are as precise"
    delta = bitfit.Delta.load(document["delta"])
    assert (delta.threshold, delta.settings["calibration"]["precision"]) == (0, 0.1)
    assert run([*command, "--precision-at", "0.1"]) == 0
    assert told(capsys)[0]["finished_before"] is True
    assert run([*command, "--precision-at", "0.9"]) == 2
    complaint = capsys.readouterr().err
    assert "is finished and has the threshold of a precision of 0.1. `bitfit eval" in complaint
    found = run(["eval", document["delta"], "--task", command[1], "--split", "validation", "--precision-at", "0.1"])
    assert found == 0


@pytest.mark.parametrize(
    ("rows", "extra", "words"),
    [
        ("", ["--precision-at", "2"], "--precision-at takes a number above 0 and at most 1; found 2."),
        (
            "text,label\n" + "".join(f"w{number + 4},{number / 4}\n" for number in range(30)),
            ["--precision-at", "0.9"],
            "--precision-at needs classes and a validation split; 'numbers' has answers of kind 'number'.",
        ),
    ],
)
def test_a_threshold_that_cannot_be_is_refused_before_the_work(
    command: list[str], tmp_path: Path, rows: str, extra: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if rows:
        (tmp_path / "numbers.csv").write_text(rows)
        command[1] = str(tmp_path / "numbers.csv")
    assert run([*command, *extra]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_tuning_writes_the_best_and_is_known_as_finished(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--tune", "30s", "--learning-rate", "auto", "--no-baselines"]) == 0
    document, said = told(capsys)
    tuned = bitfit.Delta.load(tmp_path / "out.safetensors").settings["tuned"]
    assert len(tuned) > 2
    assert document["scores"]["validation"]["accuracy"] == max(trial["validation"] for trial in tuned)
    assert "trial 2: learning rate 0.008, 2 epochs" in said
    assert run([*command, "--tune", "30s", "--no-baselines"]) == 0
    assert told(capsys)[0]["finished_before"]
    assert run([*command, "--no-baselines"]) == 2  # a training alone is another run
    assert "it was chosen by --tune" in capsys.readouterr().err


def test_a_tuning_leaves_the_checkpoint_of_a_training_that_was_killed(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = tmp_path / "out.safetensors.checkpoint" / "step-0000000005.safetensors"
    left.parent.mkdir()
    left.write_bytes(b"of another command")
    assert run([*command, "--tune", "1s", "--no-baselines"]) == 2
    said = capsys.readouterr().err
    assert "holds the checkpoint of a training" in said
    assert "--overwrite" in said
    assert left.exists()
    assert run([*command, "--tune", "1s", "--no-baselines", "--overwrite"]) == 0
    assert not left.parent.exists()


def test_the_file_of_a_race_is_another_run_by_what_differs_and_not_by_the_rate_that_won(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(race, "FEWEST_STEPS", 1)
    monkeypatch.setattr(race, "LEAD", 1e9)
    monkeypatch.setattr(race, "FACTORS", (0.25, 1.0))  # after one step their losses are the same: the first wins
    assert run([*command, "--no-baselines"]) == 0
    assert told(capsys)[0]["settings"]["learning_rate"] == 0.001
    assert run([*command, "--no-baselines", "--seed", "7"]) == 2
    said = capsys.readouterr().err
    assert "settings seed: 0 there, 7 here" in said
    assert "learning_rate" not in said


@pytest.mark.parametrize("given", [["--tune", "fast"], ["--tune", "0m"], ["--tune", "10m", "--seed", "0,1"]])
def test_a_tuning_that_cannot_be(command: list[str], given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, *given]) == 2
    assert "--tune" in capsys.readouterr().err
