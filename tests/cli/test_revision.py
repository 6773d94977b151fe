"""The commands that load a delta's own backbone take the revision of it that the delta was trained on."""

import copy
import json
import shutil
from pathlib import Path

import pytest

import bitfit
from bitfit.cli.main import run
from bitfit.delta.combine import average
from tests.hub_cache import cached, without_network
from tests.models import tiny
from tests.training.trained import sentence

NAME, BRANCH = "somebody/tiny", "experiment"


@pytest.fixture
def file(tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A delta trained on a branch of a model of the hub, whose main branch is another model."""
    main = shutil.copytree(tiny_folder, tmp_path / "main")
    tiny("bert", hidden_size=16).save_pretrained(main)
    hub = without_network(tmp_path / "hub", monkeypatch)
    cached(hub, main, "0" * 40)
    cached(hub, Path(tiny_folder), "1" * 40, BRANCH)
    rows = [{"text": sentence(i, 9), "label": "glad" if i % 2 else "sad"} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    delta = bitfit.train(bitfit.load(NAME, revision=BRANCH), tmp_path / "rows.jsonl", epochs=1).delta
    delta.save(tmp_path / "a.safetensors")
    assert (delta.backbone, delta.revision) == (NAME, BRANCH)
    return str(tmp_path / "a.safetensors")


def test_the_deltas_own_backbone_is_loaded_at_its_revision(file: str, tmp_path: Path) -> None:
    assert run(["predict", file, "w5 w6"]) == 0
    assert run(["eval", file, "--task", str(tmp_path / "rows.jsonl")]) == 0
    assert run(["delta", "changes", file]) == 0
    assert run(["delta", "merge", file, "--out", str(tmp_path / "merged")]) == 0
    assert run(["delta", "sum", file, file, "--out", str(tmp_path / "sum.safetensors")]) == 0
    assert run(["delta", "verify", file, "--model", NAME]) == 0


def test_another_model_has_no_such_revision(file: str, tiny_folder: str, tmp_path: Path) -> None:
    assert run(["predict", file, "w5 w6", "--model", tiny_folder]) == 0
    assert run(["predict", file, "w5 w6", "--model", str(tmp_path / "main")]) != 0


def test_what_is_made_of_a_delta_knows_the_revision_too(file: str) -> None:
    delta = bitfit.Delta.load(file)
    assert average([delta, delta]).revision == BRANCH
    backbone = bitfit.load(NAME, revision=BRANCH)
    model = copy.deepcopy(backbone.task_model(delta.task.head))
    selection = bitfit.select(model, "bitfit")
    assert bitfit.Delta.from_model(model, selection, task=delta.task, backbone=backbone).revision == BRANCH


def test_a_folder_of_the_hubs_name_has_no_revisions(
    file: str, tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = shutil.copytree(tiny_folder, NAME)
    assert run(["predict", file, "w5 w6"]) == 0
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "main", NAME)
    capsys.readouterr()
    assert run(["predict", file, "w5 w6"]) == 5
    assert "The delta was trained on 'somebody/tiny'" in capsys.readouterr().err
