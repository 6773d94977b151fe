"""One policy for files that exist: every command refuses them unless told --overwrite, and before any work."""

from pathlib import Path

import pytest

import bitfit
from bitfit.cli.main import run
from tests.training.trained import trained

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def delta(tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("delta") / "class.safetensors"
    trained("class", bitfit.load(tiny_folder))[1].save(path)
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    (tmp_path / "rows.csv").write_text("text\nw5 w6\nw7\n")
    return str(tmp_path / "rows.csv")


def commands(delta: str, rows: str) -> dict[str, list[str]]:
    """Every command that writes one file; the last word is the option that names it."""
    return {
        "demo": ["demo", "--epochs", "1", "--train-size", "9", "--out"],
        "submit": ["submit", delta, "--out"],
        "average": ["delta", "average", delta, delta, "--out"],
        "sum": ["delta", "sum", delta, "--out"],
        "from-adapter": ["delta", "from-adapter", "adapter", "--like", delta, "--out"],
        "changes": ["delta", "changes", delta, "--plot"],
        "predict": ["predict", delta, "--input", rows, "--out"],
    }


ENDINGS = {"changes": "png", "predict": "csv", "submit": "zip"}


@pytest.mark.parametrize("name", [*commands("", "")])
def test_a_file_that_exists_is_refused_and_left_as_it_is(
    name: str, delta: str, rows: str, tmp_path: Path, capsys: Capsys
) -> None:
    out = tmp_path / f"out.{ENDINGS.get(name, 'safetensors')}"
    out.write_text("my thesis")
    assert run([*commands(delta, rows)[name], str(out)]) == 2
    said = capsys.readouterr().err
    assert f"'{out}' exists already. --overwrite replaces it; " in said
    assert f"{commands(delta, rows)[name][-1]} names another file." in said
    assert out.read_text() == "my thesis"


@pytest.mark.parametrize("name", ["average", "sum", "changes", "predict"])
def test_overwrite_replaces_it(name: str, delta: str, rows: str, tmp_path: Path) -> None:
    if name == "changes":
        pytest.importorskip("matplotlib")
    out = tmp_path / f"out.{ENDINGS.get(name, 'safetensors')}"
    out.write_text("my thesis")
    assert run([*commands(delta, rows)[name], str(out), "--overwrite"]) == 0
    assert not out.read_bytes().startswith(b"my thesis")


@pytest.mark.parametrize("name", ["merge", "to-adapter"])
def test_a_folder_that_exists_is_refused(name: str, delta: str, tmp_path: Path, capsys: Capsys) -> None:
    assert run(["delta", name, delta, "--out", str(tmp_path)]) == 2
    assert f"'{tmp_path}' exists already. A new folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*commands("", ""), "train", "merge"])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root can make a file")
def test_a_place_where_no_file_can_be_made_is_told_before_any_work(
    name: str, delta: str, rows: str, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*arguments: object, **named: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr("bitfit.backbone.load.load", no_work)
    monkeypatch.setattr("bitfit.delta.delta.Delta.load", no_work)
    asked = {
        **commands(delta, rows),
        "train": ["train", rows, "--out"],
        "merge": ["delta", "merge", delta, "--out"],
    }
    assert run([*asked[name], f"/proc/out.{ENDINGS.get(name, 'safetensors')}"]) == 2
    assert "No file can be written to the folder of '/proc/out." in capsys.readouterr().err


def test_the_trial_leaves_nothing_behind(delta: str, tmp_path: Path) -> None:
    assert run(["delta", "average", delta, delta, "--out", str(tmp_path / "out.safetensors")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
