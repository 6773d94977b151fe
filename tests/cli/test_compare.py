"""`bitfit compare`, and the threshold of `bitfit eval` that `bitfit predict` answers by."""

import json
from pathlib import Path

import pytest

from bitfit import Delta
from bitfit.cli.main import run
from tests.cli.test_eval import write

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: str) -> Path:
    """A folder with a.csv, other rows in b.csv, and two deltas that were trained on a.csv."""
    folder = tmp_path_factory.mktemp("compare")
    write(folder / "a.csv", 40)
    write(folder / "b.csv", 30, first=100)
    command = ["train", str(folder / "a.csv"), "--model", tiny_folder, "--text", "body", "--label", "mood"]
    for seed in ("0", "1"):
        out = str(folder / f"{seed}.safetensors")
        assert run([*command, "--epochs", "1", "--max-length", "16", "--seed", seed, "--out", out]) == 0
    return folder


def test_two_deltas_are_compared_on_the_same_rows(folder: Path, capsys: Capsys) -> None:
    first, second = (str(folder / f"{seed}.safetensors") for seed in (0, 1))
    capsys.readouterr()
    assert run(["compare", first, second, "--task", str(folder / "b.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["measured_on"], found["metric"]) == ("all", 30, "accuracy")
    assert found["difference"] == pytest.approx(found["second"]["score"] - found["first"]["score"])
    assert found["difference"] == pytest.approx((found["only_second"] - found["only_first"]) / 30)
    assert run(["compare", first, second, "--task", str(folder / "a.csv")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("validation (4): accuracy ")
    assert "(McNemar's exact test)" in shown


def test_a_threshold_goes_into_a_delta_and_predict_is_unsure_below_it(folder: Path, capsys: Capsys) -> None:
    first, out = str(folder / "0.safetensors"), str(folder / "sure.safetensors")
    asked = ["eval", first, "--task", str(folder / "b.csv"), "--precision-at", "0.6"]
    capsys.readouterr()
    assert run([*asked, "--json"]) == 0
    threshold = json.loads(capsys.readouterr().out)["threshold"]
    assert threshold["precision"] == 0.6
    Delta.load(first).with_threshold(1.0, 0.6).save(out)
    assert run(["predict", out, "w5 w6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["unsure"] is True
    assert run(["predict", out, "w5 w6"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("\tunsure")
    answers = folder / "answers.csv"
    assert run(["predict", out, "--input", str(folder / "b.csv"), "--out", str(answers)]) == 0
    assert answers.read_text().splitlines()[0] == "body,mood,answer,answer_score,answer_unsure"
    assert answers.read_text().splitlines()[1].endswith(",true")


def test_a_threshold_is_kept_only_where_there_is_one(folder: Path, capsys: Capsys) -> None:
    first = str(folder / "0.safetensors")
    asked = ["eval", first, "--task", str(folder / "b.csv"), "--overwrite", "--out"]
    assert run([*asked, str(folder / "all.safetensors"), "--precision-at", "0.01"]) == 0
    assert Delta.load(folder / "all.safetensors").threshold == 0.0
    capsys.readouterr()
    assert run([*asked, str(folder / "none.safetensors")]) == 2
    assert "give --precision-at" in capsys.readouterr().err
    assert not (folder / "none.safetensors").exists()
