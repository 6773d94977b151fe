"""Texts with any number of labels on the command line: trained, shown, scored and compared with a file."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import bitfit
from bitfit.cli.main import run
from tests.training.trained import sentence

Capsys = pytest.CaptureFixture[str]
NAMES = ("sad", "glad", "calm")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["separator", "columns"])
def trained(request: pytest.FixtureRequest, tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A delta and the rows that it was trained on; what is to be said of the columns."""
    folder = tmp_path_factory.mktemp("labels")
    rows, out = folder / "rows.csv", folder / "out.safetensors"
    lists = [[name for at, name in enumerate(NAMES) if (i >> at) & 1] for i in range(80)]
    with rows.open("w", newline="") as file:
        writer = csv.writer(file)
        if request.param == "separator":
            writer.writerows([("text", "mood"), *((sentence(i), "; ".join(each)) for i, each in enumerate(lists))])
            said = ["--label", "mood", "--label-separator", ";"]
        else:
            ones = [[int(name in each) for name in NAMES] for each in lists]
            writer.writerows([("text", *NAMES), *((sentence(i), *each) for i, each in enumerate(ones))])
            said = [part for name in NAMES for part in ("--label", name)]
    told = ["train", str(rows), "--model", tiny_folder, "--epochs", "2", "--out", str(out), *said]
    assert run([*told, "--no-baselines", "--precision", "fp32"]) == 0
    return out, rows, said if request.param == "separator" else []


def test_training_says_what_its_score_is_made_of(trained: Any, capsys: Capsys) -> None:
    out, _, _ = trained
    delta = bitfit.Delta.load(out)
    assert (delta.task.kind, set(delta.task.labels)) == ("labels", set(NAMES))
    assert run(["delta", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "thresholds" in shown
    assert all(
        f"{name} {threshold}" in shown
        for name, threshold in zip(delta.task.labels, delta.thresholds or (), strict=True)
    )


def test_evaluation_has_a_line_for_each_label_and_its_threshold(trained: Any, capsys: Capsys, tmp_path: Path) -> None:
    out, rows, said = trained
    said = said if "--label-separator" not in said else said[2:]
    errors, image = tmp_path / "errors.csv", tmp_path / "labels.png"
    told = ["eval", str(out), "--task", str(rows), *said, "--precision", "fp32"]
    assert run([*told, "--errors", str(errors), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    delta = bitfit.Delta.load(out)
    assert document["scores"] == pytest.approx(dict(delta.scores["validation"]))
    assert [one["label"] for one in document["report"]["labels"]] == list(delta.task.labels)
    assert [one["threshold"] for one in document["report"]["labels"]] == list(delta.thresholds or ())
    with errors.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {"text", "answer", "error"} < set(found[0])
    assert set(json.loads(found[0]["answer"])) <= set(NAMES)
    assert run(told) == 0
    shown = capsys.readouterr().out
    assert "average precision" in shown
    assert "threshold" in shown
    assert all(name in shown for name in NAMES)
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    assert run([*told, "--image", str(image)]) == 0
    assert image.stat().st_size > 1000


def test_a_threshold_of_confidence_is_refused(trained: Any, capsys: Capsys) -> None:
    out, rows, said = trained
    said = said if "--label-separator" not in said else said[2:]
    assert run(["eval", str(out), "--task", str(rows), *said, "--precision-at", "0.9"]) == 2
    assert "--precision-at needs classes; the delta gives answers of kind 'labels'" in capsys.readouterr().err


def test_two_deltas_are_compared_on_the_same_rows(trained: Any, capsys: Capsys) -> None:
    out, rows, said = trained
    said = said if "--label-separator" not in said else said[2:]
    assert run(["compare", str(out), str(out), "--task", str(rows), *said, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["difference"] == 0
