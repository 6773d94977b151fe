"""The delta commands: one JSON document or a readable page, and the documented exit codes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

import bitfit
from bitfit.backbone.heads import Pool
from bitfit.cli.main import run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("model")
    config = BertConfig(vocab_size=40, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(folder)
    return str(folder)


def write(model: str, path: Path, seed: int, label: str = "glad", pool: Pool = "first") -> str:
    backbone = bitfit.load(model)
    task = bitfit.Task("mood", "class", ("text",), "label", ("sad", label), pool=pool)
    selection = bitfit.select(backbone.task_model(task.head))
    draw = np.random.default_rng(seed)
    values = {slot.key: draw.standard_normal(slot.shape).astype(np.float32) for slot in selection.slots}
    scores = {"test": {"accuracy": 0.8125}}
    delta = bitfit.Delta(
        model, backbone.fingerprint, "bitfit", "full", selection.slots, values, task, scores, {"seed": seed}
    )
    delta.save(path)
    return str(path)


@pytest.fixture
def file(model: str, tmp_path: Path) -> str:
    return write(model, tmp_path / "a.safetensors", 0)


@pytest.fixture
def other(model: str, tmp_path: Path) -> str:
    return write(model, tmp_path / "b.safetensors", 1)


def document(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def page(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(arguments) == 0
    return capsys.readouterr().out


def test_show_says_what_the_file_says_of_itself(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(["delta", "show", file], capsys)
    assert found["bytes"] == Path(file).stat().st_size
    assert found["values"] == sum(slot["size"] for slot in found["slots"])
    assert found["task"]["labels"] == ["sad", "glad"]
    text = page(["delta", "show", file], capsys)
    assert "score on test        accuracy 81.25 %" in text
    assert "labels sad, glad" in text


def test_show_has_no_words_of_python(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"patience": None, "data": {"train": "7bf8", "test": "edfb"}, "of": ["a", "b"]}
    replace(bitfit.Delta.load(file), settings=settings).save(tmp_path / "more.safetensors")
    lines = page(["delta", "show", str(tmp_path / "more.safetensors")], capsys).splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith(("patience", "data", "of "))] == [
        "test edfb, train 7bf8",
        "a, b",
        "-",
    ]


def test_show_spells_out_what_could_move_the_cursor(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page(["delta", "show", write(model, tmp_path / "c", 0, label="\x1b[2J[bold]x")], capsys)
    assert "\\x1b[2J[bold]x" in text
    assert "\x1b" not in text


def test_verify_accepts_the_model_and_refuses_another(
    file: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert document(["delta", "verify", file, "--model", model], capsys)["fits"] is True
    other = bitfit.load(model).model
    with torch.no_grad():
        other.pooler.dense.weight[0, 0] += 1
    other.save_pretrained(tmp_path / "other")
    assert run(["delta", "verify", file, "--model", str(tmp_path / "other")]) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "bitfit: The delta was trained on" in captured.err


def test_diff_lists_what_is_apart(file: str, other: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(["delta", "diff", file, other], capsys)
    assert found["identical"] is False
    assert found["fields"]["settings.seed"] == [0, 1]
    assert "largest first" in page(["delta", "diff", file, other], capsys)
    assert "the same values" in page(["delta", "diff", file, file], capsys)


def test_changes_are_a_table_of_terms_and_layers(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(["delta", "changes", file], capsys)["changes"]
    assert {(change["symbol"], change["layer"]) for change in found} >= {("b_q", 0), ("b_m2", 1)}
    text = page(["delta", "changes", file], capsys)
    assert "b_LN2" in text
    assert "pooler" in text


def test_average_sum_and_merge_write_what_they_say(
    file: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for how in ("average", "sum"):
        out = str(tmp_path / how)
        assert document(["delta", how, file, other, "--out", out], capsys)["file"] == out
        assert bitfit.Delta.load(out).settings["combined"] == how
        before = Path(file).read_bytes()
        assert run(["delta", how, file, other, "--out", file]) == 2
        assert "exists already" in capsys.readouterr().err
        assert Path(file).read_bytes() == before
    assert run(["delta", "average", file, other, "--out", str(tmp_path / "words")]) == 0
    text = capsys.readouterr().out
    assert "values in" in " ".join(text.split())
    assert "Delta(" not in text
    found = document(["delta", "merge", file, "--out", str(tmp_path / "merged")], capsys)
    assert {"config.json", "model.safetensors"} <= set(found["files"])
    assert found["trust_remote_code"] is False
    said = page(["delta", "merge", file, "--out", str(tmp_path / "again")], capsys)
    assert "an ordinary transformers checkpoint." in said
    assert "trust_remote_code" not in said


def test_merging_a_head_on_the_mean_says_what_to_allow_and_why(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(model, tmp_path / "mean.safetensors", 0, pool="mean")
    found = document(["delta", "merge", file, "--out", str(tmp_path / "merged")], capsys)
    assert {"config.json", "modeling_mean.py", "modules.json"} <= set(found["files"])
    assert found["trust_remote_code"] is True
    said = " ".join(page(["delta", "merge", file, "--out", str(tmp_path / "again")], capsys).split())
    assert "which no class of transformers does: allow its modeling_mean.py." in said
    assert 'again", trust_remote_code=True)' in said
    assert 'again").encode(texts)' in said
    told = " ".join(page(["delta", "merge", "--help"], capsys).split())
    assert 'pipeline("text-classification", OUT, trust_remote_code=True)' in told
    assert "SentenceTransformer(OUT).encode(texts)" in told


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["delta", "show", "nowhere"], 5, "nowhere is refused. There is no such file."),
        (["delta", "shwo", "x"], 2, "shwo"),
        (["detla"], 2, "Did you mean 'delta'?"),
        (["delta", "show"], 2, "Missing argument"),
        (["delta", "show", "x", "--jsn"], 2, "No such option"),
    ],
)
def test_what_cannot_be_is_told_on_standard_error_with_its_exit_code(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bitfit.Delta, "load", interrupted)
    assert run(["delta", "show", "x"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    errors = [error for error in vars(bitfit.errors).values() if hasattr(error, "exit_code")]
    text = page(["--help"], capsys)
    for error in errors:
        assert f"\n    {error.exit_code} " in text
