"""`bitfit rank`, the drawn heat map and the adapter commands, from the shell."""

import json
import sys
from pathlib import Path

import pytest

import bitfit
from bitfit.cli.main import run
from tests.models import tiny_tokenizer

ROWS = "".join(f"w{4 + i % 30} w{5 + i % 20},{'no' if i % 3 else 'yes'}\n" for i in range(60))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.models import tiny

    folder = tmp_path_factory.mktemp("model")
    tiny("bert").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "mood.csv"
    path.write_text("text,label\n" + ROWS)
    return str(path)


@pytest.fixture(scope="module")
def lora(model: str, data: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("out") / "lora.safetensors"
    assert run(["train", data, "--model", model, "--method", "lora", "--epochs", "1", "--out", str(out)]) == 0
    return str(out)


def test_rank_lists_every_term_in_order(model: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rank", data, "--model", model, "--by", "fisher", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"task", "model", "by", "examples", "terms"}
    scores = [term["fisher"] for term in found["terms"]]
    assert scores == sorted(scores, reverse=True)
    assert {"symbol", "role", "layer", "name", "size", "gradient", "fisher", "change"} == set(found["terms"][0])
    assert not any(term["symbol"] == "b_k" for term in found["terms"])


def test_rank_shows_a_table(model: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rank", data, "--model", model, "--no-run"]) == 0
    said = capsys.readouterr()
    assert "Fisher" in said.out
    assert "kind of task: class, by the values of 'label'" in said.err


def test_an_order_by_a_run_that_is_left_out_is_refused(
    model: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rank", data, "--model", model, "--by", "change", "--no-run"]) == 2
    assert "Drop one of them" in capsys.readouterr().err


def test_a_budget_that_cannot_be_is_refused_before_data_is_read(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "no-such-task", "--model", model, "--method", "bitfit[auto:50%]"]) == 2
    assert "must lie between the smallest term" in capsys.readouterr().err


def test_an_adapter_goes_out_and_comes_back(model: str, lora: str, tmp_path: Path) -> None:
    folder, again = tmp_path / "adapter", tmp_path / "again.safetensors"
    assert run(["delta", "to-adapter", lora, "--out", str(folder)]) == 0
    assert run(["delta", "from-adapter", str(folder), "--like", lora, "--out", str(again)]) == 0
    first, second = bitfit.Delta.load(lora), bitfit.Delta.load(again)
    assert first.slots == second.slots
    assert all((first.values[key] == second.values[key]).all() for key in first.values)


def test_the_heat_map_is_drawn(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    file, picture = tmp_path / "a.safetensors", tmp_path / "a.png"
    assert run(["train", data, "--model", model, "--epochs", "1", "--out", str(file)]) == 0
    assert run(["delta", "changes", str(file), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["delta", "changes", str(file), "--plot", str(picture), "--overwrite"]) == 7
