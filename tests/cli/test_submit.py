"""`bitfit submit`: one delta a task, labels by name, what is missing said; the zip itself has its own test."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import bitfit
from bitfit.cli.main import run
from bitfit.data.catalog import KNOWN
from bitfit.data.encode.encoder import tokenize
from bitfit.data.table import TaskTable
from bitfit.data.write.glue_zip import BY_NAME
from tests.training.trained import SETTINGS, sentence

ROWS = BY_NAME["WNLI.tsv"].rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_folder: str) -> Path:
    """A copy of WNLI's test, and deltas of three tasks; WNLI's names its labels the other way round."""
    folder = tmp_path_factory.mktemp("submit")
    place = folder / "glue" / "wnli"
    place.mkdir(parents=True)
    pairs = {name: [sentence(i + shift) for i in range(ROWS)] for shift, name in enumerate(("sentence1", "sentence2"))}
    rows = pa.table({**pairs, "label": [-1] * ROWS, "idx": range(ROWS)})
    pq.write_table(rows.take(list(reversed(range(ROWS)))), place / "test-00000-of-00001.parquet")
    backbone = bitfit.load(tiny_folder)
    for name in ("wnli", "rte", "imdb"):
        task = replace(KNOWN[name].task, max_length=24)
        task = task.with_labels(task.labels[::-1])
        texts = dict(zip(task.texts, pairs.values(), strict=False))
        train = pa.table({**texts, "label": [i % 2 for i in range(ROWS)]})
        data = tokenize(TaskTable(task, {"train": train}), backbone.reader, cache=None)
        bitfit.train(backbone, data, "bitfit", SETTINGS).delta.save(folder / f"{name}.safetensors")
    return folder


def submit(folder: Path, *names: str) -> int:
    files = [str(folder / f"{name}.safetensors") for name in names]
    return run(
        ["submit", *files, "--data-dir", str(folder), "--out", str(folder / "glue.zip"), "--overwrite", "--json"]
    )


def test_answers_are_those_of_predict_by_the_labels_names(
    made: Path, tiny_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(made, "wnli") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["files"] == {"WNLI.tsv": ROWS}
    assert "CoLA.tsv" in json.loads(said.out)["missing"]
    assert "Still missing" in said.err
    with zipfile.ZipFile(made / "glue.zip") as archive:
        header, *lines = archive.read("WNLI.tsv").decode().splitlines()
    assert header == "index\tprediction"
    delta = bitfit.Delta.load(made / "wnli.safetensors")
    pairs = [(sentence(i), sentence(i + 1)) for i in range(ROWS)]
    answers = bitfit.predict(bitfit.load(tiny_folder), delta, pairs)
    wanted = [KNOWN["wnli"].task.labels.index(answer.value) for answer in answers]
    assert lines == [f"{i}\t{number}" for i, number in enumerate(wanted)]
    assert delta.task.labels == KNOWN["wnli"].task.labels[::-1]


def test_a_test_that_is_not_there_is_said(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(made, "wnli", "rte") == 0
    assert "RTE.tsv is left out: No copy of 'rte'" in capsys.readouterr().err
    assert submit(made, "rte") == 4
    assert "nothing to submit" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_before_anything_is_answered(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "no" / "glue.zip")
    assert run(["submit", str(made / "wnli.safetensors"), "--data-dir", str(made), "--out", out]) == 2
    assert "a folder that does not exist" in capsys.readouterr().err


def test_own_data_under_the_name_of_a_task_is_no_submission(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delta = bitfit.Delta.load(made / "imdb.safetensors")
    own = replace(delta, task=replace(delta.task, name="sst2"))
    own.save(tmp_path / "sst2.safetensors")
    assert submit(tmp_path, "sst2") == 2
    assert "trained on other data than GLUE's 'sst2': it reads text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "words"), [(["imdb"], "'imdb' is no task of GLUE"), (["rte", "rte"], "Two files answer 'rte'")]
)
def test_what_cannot_be_submitted(made: Path, names: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(made, *names) == 2
    assert words in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(made / "wnli.safetensors"), "--data-dir", str(made), "--out", str(made / "other.zip")]
    assert run(["submit", *files, "--device", "cuda"]) != 0
    assert "cuda" in capsys.readouterr().err
    assert not (made / "other.zip").exists()
    assert run(["submit", *files, "--device", "cpu", "--precision", "fp32"]) == 0
    assert (made / "other.zip").exists()
