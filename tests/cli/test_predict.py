"""`bitfit predict`: texts, pairs, sentences and whole files; one JSON document; what was mistyped is named."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import bitfit
from bitfit.cli import output
from bitfit.cli.main import run
from tests.training.trained import sentence, trained

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def file_of(tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A delta file of each kind of task."""
    folder, backbone = tmp_path_factory.mktemp("deltas"), bitfit.load(tiny_folder)

    def made(kind: str) -> str:
        path = folder / f"{kind}.safetensors"
        if not path.exists():
            trained(kind, backbone)[1].save(path)
        return str(path)

    return made


def document(capsys: Capsys, *arguments: str) -> Any:
    assert run(["predict", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_texts(file_of: Callable[[str], str], capsys: Capsys) -> None:
    first, second = document(capsys, file_of("class"), "w5 w6", "w7")
    assert first["texts"] == ["w5 w6"]
    assert first["answer"] in first["scores"]
    assert set(second["scores"]) == {"no", "yes", "perhaps"}


def test_labels(file_of: Callable[[str], str], capsys: Capsys, tmp_path: Path) -> None:
    file = file_of("labels")
    delta = bitfit.Delta.load(file)
    low = tmp_path / "low.safetensors"
    settings = {**delta.settings, "calibration": {"thresholds": [1e-4, 1e-4, 1 - 1e-4]}}
    replace(delta, settings=settings).save(low)
    [found] = document(capsys, str(low), "w5 w6")
    assert set(found["answer"]) == {"sad", "glad"}
    assert set(found["scores"]) == {"sad", "glad", "calm"}
    assert run(["predict", str(low), "w5 w6"]) == 0
    shares = ", ".join(f"{found['scores'][label]:.4f}" for label in found["answer"])
    assert capsys.readouterr().out.splitlines() == [f"w5 w6\t{', '.join(found['answer'])}\t{shares}"]
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("text\nw5 w6\n")
    assert run(["predict", str(low), "--input", str(rows), "--out", str(out)]) == 0
    [line] = csv.DictReader(out.open())
    assert json.loads(line["answer"]) == found["answer"]
    assert json.loads(line["answer_score"]) == pytest.approx(
        [found["scores"][label] for label in found["answer"]], abs=1e-4
    )


def test_where_no_terminal_is_each_answer_is_a_line_of_tabs(file_of: Callable[[str], str], capsys: Capsys) -> None:
    first, second = document(capsys, file_of("class"), "w5 w6", "w7\tw8\nw9")
    assert run(["predict", file_of("class"), "w5 w6", "w7\tw8\nw9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    share = first["scores"][first["answer"]]
    assert lines[0].split("\t") == ["w5 w6", first["answer"], f"{share:.4f}"]
    assert lines[1].split("\t")[:2] == ["w7\\tw8\\nw9", second["answer"]]
    assert len(lines) == 2
    long = "w5 " * 400
    assert run(["predict", file_of("pair"), long, "w6", "w7", "w8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t")[:2] == [long, "w6"]
    assert len(lines) == 2


def test_on_a_terminal_there_is_a_table_without_a_title_and_long_texts_are_shortened(
    file_of: Callable[[str], str], capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminal() -> Console:
        return Console(file=sys.stdout, force_terminal=True, width=200, markup=False, emoji=False, highlight=False)

    monkeypatch.setattr(output, "out", terminal)
    delta = bitfit.Delta.load(file_of("class"))
    assert run(["predict", file_of("class"), "w5 w6", "w7 " * 200]) == 0
    shown = capsys.readouterr().out
    assert delta.task.name not in shown
    assert "%)" in shown
    assert "…" in shown
    assert "w7 " * 40 not in shown


def test_other_kinds(file_of: Callable[[str], str], capsys: Capsys) -> None:
    assert document(capsys, file_of("pair"), "w5", "w6", "w7", "w8")[1]["texts"] == ["w7", "w8"]
    assert isinstance(document(capsys, file_of("number"), "w5")[0]["answer"], float)
    assert len(document(capsys, file_of("tags"), "w5 w6 w7")[0]["answer"]) == 3
    found = document(capsys, file_of("span"), "w5 w6", "w7 w8 w9")[0]
    assert found["best"][0]["text"] == found["answer"]
    for kind, texts in {"tags": ["w5 w6 w7 w8 w9 w10 w11"], "span": ["w5 w6", "w7 w8 w9"], "number": ["w5"]}.items():
        assert run(["predict", file_of(kind), *texts]) == 0
    assert "(cut off)" in capsys.readouterr().out


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.tsv"
    path.write_text("message\tnumber\n" + "".join(f"{sentence(i)}\t{i}\n" for i in range(30)))
    return path


def test_a_file_into_a_file(file_of: Callable[[str], str], rows: Path, tmp_path: Path, capsys: Capsys) -> None:
    out = tmp_path / "out.parquet"
    asked = [file_of("class"), "--input", str(rows), "--text", "message"]
    assert document(capsys, *asked, "--out", str(out)) == {
        "out": str(out),
        "rows": 30,
        "answered_before": 0,
        "unanswered": 0,
    }
    found = pq.read_table(out)
    assert found.column_names == ["message", "number", "answer", "answer_score"]
    assert found["number"].to_pylist() == [str(i) for i in range(30)]
    alone = document(capsys, *asked)
    assert [line["answer"] for line in alone] == found["answer"].to_pylist()
    assert run(["predict", *asked, "--out", str(out), "--overwrite"]) == 0
    said = capsys.readouterr()
    assert "30 rows answered" in said.out
    assert "30 of 30 rows" in said.err


def test_a_file_as_it_was_exported_elsewhere(
    file_of: Callable[[str], str], tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_bytes(b"text;more\nw5 w6;caf\xe9\n;none\nw7;x\n")
    asked = [file_of("class"), "--input", "in.csv"]
    assert run(["predict", *asked]) == 4
    assert "Split at ';' it has 2: text, more. Give --delimiter ';'." in capsys.readouterr().err
    assert run(["predict", *asked, "--delimiter", ";"]) == 4
    assert "as in --encoding latin-1" in capsys.readouterr().err
    asked += ["--delimiter", ";", "--encoding", "latin-1"]
    assert run(["predict", *asked]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1] == "\t\t"
    assert (
        "1 of 3 rows cannot be used and get an empty answer: in.csv, row 2, column 'text': the text is empty"
        in said.err
    )
    assert document(capsys, *asked)[1] == {"texts": [""], "answer": None, "scores": None}
    written = document(capsys, *asked, "--out", "out.jsonl")
    assert (written["rows"], written["unanswered"]) == (3, 1)
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["more"] for line in lines] == ["café", "none", "x"]
    assert [line["answer"] is None for line in lines] == [False, True, False]
    Path("in.csv").write_text("text\tmore\nw5 w6\tx\n")
    assert len(document(capsys, file_of("class"), "--input", "in.csv", "--delimiter", r"\t")) == 1


def test_words_in_a_file(file_of: Callable[[str], str], tmp_path: Path, capsys: Capsys) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"words": ["w5", "w6"]}\n{"words": "w7 w8 w9"}\n')
    found = document(capsys, file_of("tags"), "--input", str(source), "--tokens", "words")
    assert [len(line["answer"]) for line in found] == [2, 3]


@pytest.mark.parametrize(
    ("kind", "arguments", "code", "words"),
    [
        ("class", [], 2, "Nothing to answer"),
        ("class", ["w5", "--input", "x.csv"], 2, "not both"),
        ("class", ["w5", "--out", "x.csv"], 2, "--out belongs to --input"),
        ("class", ["w5", "--answer", "mood", "--overwrite"], 2, "--answer, --overwrite belong to --input; found TEXTs"),
        ("class", ["w5", "--delimiter", ";", "--encoding", "x"], 2, "--encoding, --delimiter belong to --input"),
        ("class", ["--input", "absent.csv", "--encoding", "latn1"], 2, "no encoding 'latn1'. Did you mean 'latin1'?"),
        ("class", ["--input", "x.csv", "--answer", "mood"], 2, "--answer belongs to --out; found no --out"),
        ("class", ["--input", "x.csv", "--overwrite"], 2, "--overwrite belongs to --out; found no --out"),
        ("pair", ["w5"], 2, "takes 2 texts at a time"),
        ("class", [" "], 4, "row 1, column 'text': the text is empty"),
        ("class", ["--input", "absent.csv"], 4, "There is no file absent.csv"),
        ("class", ["--input", "absent.csv", "--text-pair", "b"], 2, "there is no --text-pair"),
        ("class", ["--input", "absent.csv", "--tokens", "b"], 2, "reads texts, not words"),
    ],
)
def test_what_cannot_be_answered(
    file_of: Callable[[str], str], kind: str, arguments: list[str], code: int, words: str, capsys: Capsys
) -> None:
    assert run(["predict", file_of(kind), *arguments]) == code
    assert words in capsys.readouterr().err


def test_ctrl_c_says_that_the_same_command_goes_on(
    file_of: Callable[[str], str], rows: Path, tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bitfit.cli.progress.Answering.answered", interrupt)
    out = ["--out", str(tmp_path / "out.csv")]
    assert run(["predict", file_of("class"), "--input", str(rows), "--text", "message", *out]) == 130
    assert "The same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    found = document(capsys, file_of("class"), "--input", str(rows), "--text", "message", *out)
    assert found["answered_before"] == 30
