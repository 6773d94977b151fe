"""`bitfit submit`: one delta a task, labels by name, what is missing said; the zip itself has its own test."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from bitfit.cli.submit import command
from bitfit.data import batch
from bitfit.data.catalog import KNOWN
from bitfit.data.submission import BY_NAME
from bitfit.errors import DataError, RequestError


@pytest.fixture
def wnli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the test, and a 'model' whose delta names the labels the other way round."""
    folder = tmp_path / "glue" / "wnli"
    folder.mkdir(parents=True)
    rows = BY_NAME["WNLI.tsv"].rows
    columns = {"sentence1": ["a"] * rows, "sentence2": ["b"] * rows, "label": [-1] * rows, "idx": range(rows)}
    pq.write_table(pa.table(columns), folder / "test-00000-of-00001.parquet")

    def loaded(path: Path) -> SimpleNamespace:
        task = KNOWN[path.stem.split("-")[0]].task
        return SimpleNamespace(task=task.with_labels(task.labels[::-1]), backbone="tiny")

    encoder = SimpleNamespace(examples=lambda rows: rows)
    monkeypatch.setattr("bitfit.delta.delta.Delta.load", loaded)
    monkeypatch.setattr("bitfit.backbone.load.load", lambda name: SimpleNamespace(name=name, tokenizer=object()))
    monkeypatch.setattr(batch, "RowEncoder", lambda task, tokenizer: encoder)
    first = SimpleNamespace(outputs=lambda rows: np.tile([1.0, 0.0], (rows.num_rows, 1)))
    monkeypatch.setattr("bitfit.training.evaluate.Predictor", lambda backbone, delta: first)
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    options = ["--data-dir", str(folder), "--out", str(folder / "glue.zip")]
    return CliRunner().invoke(command, [*arguments, *options], catch_exceptions=False)


def test_answers_go_by_the_labels_names(wnli: Path) -> None:
    import zipfile

    result = run(wnli, "wnli.safetensors", "--json")
    document = json.loads(result.stdout)
    assert document["files"] == {"WNLI.tsv": 146}
    assert "CoLA.tsv" in document["missing"]
    assert "Still missing" in result.stderr
    with zipfile.ZipFile(wnli / "glue.zip") as archive:
        lines = archive.read("WNLI.tsv").decode().splitlines()
    assert lines[:3] == ["index\tprediction", "0\t1", "1\t1"]  # the delta's first label is GLUE's second


def test_a_test_that_is_not_there_is_said(wnli: Path) -> None:
    result = run(wnli, "wnli.safetensors", "rte.safetensors", "--json")
    assert "RTE.tsv is left out: No copy of 'rte'" in result.stderr
    with pytest.raises(DataError, match="nothing to submit"):
        run(wnli, "rte.safetensors")


@pytest.mark.parametrize(
    ("files", "words"),
    [(["imdb.x"], "'imdb' is no task of GLUE"), (["rte-1.x", "rte-2.x"], "Two files answer 'rte'")],
)
def test_what_cannot_be_submitted(wnli: Path, files: list[str], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        run(wnli, *files)
