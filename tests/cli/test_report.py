"""`bitfit report`: what is on the page with data, without, and where data is asked for that cannot be had."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from bitfit.cli.main import run
from tests.page.reading import Page, check_harmless
from tests.training.trained import sentence

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: str) -> Path:
    """A folder with mood.csv, and a delta that was trained on it."""
    folder = tmp_path_factory.mktemp("report")
    rows = [f"{sentence(number, 9)},{'glad' if number % 2 else 'sad'}" for number in range(60)]
    (folder / "mood.csv").write_text("\n".join(["body,mood", *rows, ""]))
    command = ["train", str(folder / "mood.csv"), "--model", tiny_folder, "--epochs", "2", "--precision", "fp32"]
    assert run([*command, "--precision-at", "0.2", "--out", str(folder / "mood.safetensors")]) == 0
    return folder


def reported(capsys: Capsys, folder: Path, *arguments: str) -> tuple[Any, Page]:
    capsys.readouterr()
    page = folder / "page.html"
    assert (
        run(["report", str(folder / "mood.safetensors"), "--out", str(page), "--overwrite", "--json", *arguments]) == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["page"] == str(page)
    assert document["bytes"] == page.stat().st_size < 100_000
    return document, check_harmless(page.read_text(encoding="utf-8"))


def test_with_its_data_the_page_has_everything(trained: Path, capsys: Capsys) -> None:
    document, page = reported(capsys, trained, "--task", str(trained / "mood.csv"))
    assert (document["split"], document["missing"]) == ("validation", [])
    titles = [
        *("How good it is", "Class by class", "How sure it is", "The surest wrong answers", "How it learnt"),
        *("What training changed", "The data", "How to use it", "Settings and versions"),
    ]
    places = [page.text.index(title) for title in titles if title != "The surest wrong answers" or title in page.text]
    assert places == sorted(places)
    assert "Not on this page" not in page.text
    assert "bitfit predict mood.safetensors" in page.text
    assert "is what the delta was trained on" in page.text


def test_the_lines_that_the_page_shows_run(trained: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    _, page = reported(capsys, trained, "--no-data")
    monkeypatch.chdir(trained)
    (trained / "new.csv").write_text("body\nw5 w6\nw7\n")
    shell, python = page.codes
    for line in shell.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "bitfit"
        assert run(arguments) == 0
    assert len((trained / "answers.csv").read_text().splitlines()) == 3
    exec(python, {})
    assert "'glad': " in capsys.readouterr().out


def test_where_its_data_cannot_be_had_the_page_says_so(trained: Path, capsys: Capsys) -> None:
    document, page = reported(capsys, trained)
    assert document["split"] is None
    assert "data of your own, 'mood', which it does not hold. Give the file, folder or rows again: --task." in page.text
    assert "What training changed" in page.text
    assert "On validation, the worst class first" in page.text
    assert "The surest wrong answers" not in page.text


def test_without_data_neither_model_nor_data_is_read(
    trained: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitfit.backbone.load.load", None)
    document, page = reported(capsys, trained, "--no-data")
    assert len(document["missing"]) == 2
    assert "It is right on " in page.text
    assert "95 % interval" in page.text
    assert "How it learnt" in page.text


def test_where_the_model_is_gone_the_page_says_so(trained: Path, tmp_path: Path, capsys: Capsys) -> None:
    content = (trained / "mood.safetensors").read_bytes()
    (tmp_path / "mood.safetensors").write_bytes(content)
    import bitfit

    delta = bitfit.Delta.load(tmp_path / "mood.safetensors")
    object.__setattr__(delta, "backbone", "no/such-model")
    delta.save(tmp_path / "mood.safetensors")
    document, page = reported(capsys, tmp_path)
    assert any(line.startswith("The model cannot be had: ") for line in document["missing"])
    assert "What training changed" not in page.text


def test_the_page_lies_beside_the_file_and_is_not_overwritten_unasked(trained: Path, capsys: Capsys) -> None:
    command = ["report", str(trained / "mood.safetensors"), "--no-data"]
    assert run(command) == 0
    assert (
        capsys.readouterr().out == f"{trained / 'mood.html'}: {(trained / 'mood.html').stat().st_size / 1000:,.0f} KB\n"
    )
    assert run(command) == 2
    assert "exists already. --overwrite replaces it" in capsys.readouterr().err
    assert run([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--no-data", "--split", "test"], 2, "--no-data reads neither model nor data"),
        (["--out", "mood.safetensors"], 2, "is the delta itself. Give --out mood.html."),
        (["--no-data", "--device", "cpu"], 2, "--no-data reads neither model nor data"),
        (["--split", "tset"], 2, "data of your own"),
        (["--task", "mood.csv", "--split", "tset"], 2, "no labelled split 'tset'"),
        (["--task", "gone.csv"], 2, "No task, file or folder named 'gone.csv'"),
        (["--model", "gone"], 3, "gone"),
        (["--out", "no/page.html"], 2, "--out is in a folder that does not exist"),
    ],
)
def test_what_is_asked_for_and_cannot_be_had_is_an_error(
    trained: Path, arguments: list[str], code: int, words: str, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    assert run(["report", "mood.safetensors", "--overwrite", *arguments]) == code
    assert words in capsys.readouterr().err
