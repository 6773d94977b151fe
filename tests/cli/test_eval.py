"""`bitfit eval`: which part is scored and on how many rows; own files; rows that are not those of training."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitfit.cli import output
from bitfit.cli.evaluated import show
from bitfit.cli.main import run
from bitfit.data.encode.encoder import tokenize
from bitfit.inference.bootstrap import Interval
from bitfit.inference.evaluation import Evaluation
from bitfit.inference.report import class_report
from tests.training.trained import sentence

pandas = pytest.importorskip("pandas", reason="pandas is not installed")

Capsys = pytest.CaptureFixture[str]


def write(path: Path, rows: int, first: int = 0) -> Path:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["body", "mood"])
        lines.writerows([sentence(i, 9), "glad" if i % 2 else "sad"] for i in range(first, first + rows))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: str) -> Path:
    """A folder with a.csv, and a delta that was trained on it."""
    folder = tmp_path_factory.mktemp("eval")
    write(folder / "a.csv", 40)
    command = ["train", str(folder / "a.csv"), "--model", tiny_folder, "--text", "body", "--label", "mood"]
    options = ["--epochs", "1", "--max-length", "16", "--train-size", "20", "--out", str(folder / "a.safetensors")]
    assert run([*command, *options]) == 0
    return folder


def scored(capsys: Capsys, folder: Path, *arguments: str) -> Any:
    capsys.readouterr()
    assert run(["eval", str(folder / "a.safetensors"), *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_another_file_is_scored_whole(trained: Path, capsys: Capsys) -> None:
    other = write(trained / "b.csv", 12, first=100)
    found = scored(capsys, trained, "--task", str(other))
    assert (found["split"], found["measured_on"]) == ("all", 12)
    assert list(found["scores"]) == ["accuracy", "macro_f1"]
    assert run(["eval", str(trained / "a.safetensors"), "--task", str(other)]) == 0
    assert capsys.readouterr().out.startswith("all (12): accuracy 0.")


def test_a_file_as_it_was_exported_elsewhere_is_trained_on_and_scored(
    trained: Path, tiny_folder: str, capsys: Capsys
) -> None:
    source, delta = trained / "export.csv", trained / "export.safetensors"
    rows = [f"w5 caf\xe9 {sentence(i, 5)};{'glad' if i % 2 else 'sad'}" for i in range(40)]
    source.write_text("\n".join(["body;mood", ";sad", *rows, "w5;"]) + "\n", encoding="latin-1")
    train = ["train", str(source), "--model", tiny_folder, "--epochs", "1", "--out", str(delta), "--no-baselines"]
    given = ["--delimiter", ";", "--encoding", "latin-1"]
    assert run([*train, *given]) == 4
    assert "Mend these rows, or leave them out: --skip-bad-rows." in capsys.readouterr().err
    assert run([*train, *given, "--skip-bad-rows"]) == 0
    assert "train: 2 rows that cannot be used are left out: " in capsys.readouterr().err
    assert b"latin" not in delta.read_bytes()
    assert run(["eval", str(delta), "--task", str(source), *given, "--skip-bad-rows"]) == 0
    assert "is what the delta was trained on" in capsys.readouterr().err
    assert run(["rank", str(source), "--model", tiny_folder, "--no-run", *given, "--skip-bad-rows"]) == 0


def test_what_the_scores_are_made_of_is_shown_and_drawn(trained: Path, capsys: Capsys) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    other, picture = write(trained / "d.csv", 12, first=100), trained / "d.png"
    found = scored(capsys, trained, "--task", str(other), "--image", str(picture))
    assert picture.exists()
    low, high = found["interval"]
    assert 0 <= low <= found["scores"]["accuracy"] <= high <= 1
    assert [one["label"] for one in found["report"]["classes"]] == ["glad", "sad"]
    assert sum(map(sum, found["report"]["confusion"])) == 12
    assert run(["eval", str(trained / "a.safetensors"), "--task", str(other)]) == 0
    shown = capsys.readouterr().out
    assert "95 % interval of accuracy on all: " in shown
    assert "precision" in shown
    assert re.search(r"\d of 6 '(glad|sad)' (was|were) answered '(glad|sad)'", shown)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_wrong_and_the_least_certain_rows_are_written(trained: Path, ending: str, capsys: Capsys) -> None:
    other, errors = write(trained / "e.csv", 12, first=100), trained / f"errors.{ending}"
    found = scored(capsys, trained, "--task", str(other), "--errors", str(errors))
    read = {"csv": pandas.read_csv, "jsonl": lambda path: pandas.read_json(path, lines=True)}
    written = read.get(ending, pandas.read_parquet)(errors)
    assert list(written.columns) == ["body", "mood", "answer", "confidence", "why"]
    assert len(written) == 12
    assert sum(written["why"] == "wrong") == round(12 * (1 - found["scores"]["accuracy"]))
    assert found["calibration"]["temperature"] > 0


def test_of_many_classes_the_worst_and_the_largest_are_shown(capsys: Capsys) -> None:
    names = [f"class {i}" for i in range(60)]
    gold = np.concatenate([np.arange(60), np.full(9, 30)])
    answers = np.where(gold < 3, 59, gold)
    made = class_report(names, gold, np.eye(60)[answers])
    evaluated = Evaluation("test", {"accuracy": 0.9}, "69", Interval(0.8, 0.95), made)
    show(output.out(), evaluated)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 33
    assert any(line.split()[:3] == ["class", "0", "0.000"] for line in lines)
    assert any(line.split()[:2] == ["class", "30"] for line in lines)
    assert "40 more classes: --json has them all" in lines
    assert "1 of 1 'class 0' was answered 'class 59'" in lines


def test_the_file_of_the_training_is_scored_on_what_was_held_out(trained: Path, capsys: Capsys) -> None:
    found = scored(capsys, trained, "--task", str(trained / "a.csv"))
    assert (found["split"], found["measured_on"]) == ("validation", 4)
    assert any("is what the delta was trained on" in note for note in found["notes"])
    assert any("no labelled split 'test': scored on 'validation'" in note for note in found["notes"])
    assert not any("other rows" in note for note in found["notes"])


def test_rows_of_the_training_and_other_rows_are_remarked_upon(trained: Path, capsys: Capsys) -> None:
    own = ["--task", str(trained / "a.csv"), "--split"]
    learnt = scored(capsys, trained, *own, "train", "--train-size", "20")
    assert any("holds the rows that the delta was trained on" in note for note in learnt["notes"])
    other = write(trained / "c.csv", 30, first=7)
    changed = scored(capsys, trained, "--task", str(other), "--split", "validation")
    assert any("'validation' holds other rows than in training: " in note for note in changed["notes"])
    longer = scored(capsys, trained, *own, "validation", "--max-length", "8")
    assert any("cut at 8 pieces and not at 16" in note for note in longer["notes"])


def test_only_the_part_that_is_scored_is_cut_into_pieces(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def noting(table: Any, *rest: Any, **more: Any) -> Any:
        seen.append(list(table.splits))
        return tokenize(table, *rest, **more)

    monkeypatch.setattr("bitfit.inference.task_data.tokenize", noting)
    own = ["eval", str(trained / "a.safetensors"), "--task", str(trained / "a.csv")]
    assert run([*own, "--split", "validation"]) == 0
    assert run(own) == 0
    assert seen == [["validation"], ["validation"]]


def test_tags_of_another_column_are_scored_as_they_were_trained(tmp_path: Path, tiny_folder: str) -> None:
    place = tmp_path / "ud_english_ewt"
    place.mkdir()
    features = {name: {"feature": {"names": ["x", name], "_type": "ClassLabel"}} for name in ("upos", "xpos")}
    schema = {"huggingface": json.dumps({"info": {"features": features}})}
    rows = pa.table({"tokens": [["w5", "w6"]] * 8, "upos": [[0, 1]] * 8, "xpos": [[1, 0]] * 8})
    for split in ("train", "validation"):
        pq.write_table(rows.replace_schema_metadata(schema), place / f"{split}.parquet")
    out = str(tmp_path / "out.safetensors")
    common = ["--data-dir", str(tmp_path)]
    asked = ["train", "ud-ewt", "--tags", "xpos", "--model", tiny_folder, "--epochs", "1", "--out", out, *common]
    assert run(asked) == 0
    assert run(["eval", out, *common]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            [],
            2,
            "data of your own, 'a', which it does not hold. Give the file, folder or rows again: --task.",
        ),
        (["--task", "a.csv", "--split", "tset"], 2, "no labelled split 'tset'. Known: train, validation"),
        (["--task", "a.csv", "--errors", "a.xls"], 2, "Nothing is written as 'a.xls'"),
        (["--task", "a.csv", "--image", "no/a.png"], 2, "--image is in a folder that does not exist"),
        (["--task", "a.csv", "--train-size", "5"], 2, "--train-size 5 shortens the rows of train alone"),
        (["--task", "a.csv", "--pool", "mean"], 2, "No such option"),
        (["--task", "a.csv", "--kind", "number"], 2, "No such option"),
        (["--task", "odd.csv"], 4, "row 2, column 'mood': the label 'angry' is not among those of train"),
    ],
)
def test_what_cannot_be_scored(
    trained: Path, arguments: list[str], code: int, words: str, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    (trained / "odd.csv").write_text("body,mood\nw5,glad\nw6,angry\n")
    assert run(["eval", "a.safetensors", *arguments]) == code
    assert words in capsys.readouterr().err
