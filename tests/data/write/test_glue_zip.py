"""The zip has the server's files, headers, words and row counts, or is not written."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from bitfit.data.write.glue_zip import FILES, check_submission, files_of, write_submission
from bitfit.errors import DataError

# as the server's own sample submission has them
NAMES = ["AX", "CoLA", "MNLI-m", "MNLI-mm", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B", "WNLI"]
WORDS = {
    "AX": {"entailment", "neutral", "contradiction"},
    "MNLI-m": {"entailment", "neutral", "contradiction"},
    "MNLI-mm": {"entailment", "neutral", "contradiction"},
    "QNLI": {"entailment", "not_entailment"},
    "RTE": {"entailment", "not_entailment"},
}
ROWS = {
    **{"AX": 1104, "CoLA": 1063, "MNLI-m": 9796, "MNLI-mm": 9847, "MRPC": 1725, "QNLI": 5463},
    **{"QQP": 390965, "RTE": 3000, "SST-2": 1821, "STS-B": 1379, "WNLI": 146},
}


def answers(names: list[str]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    chosen = [file for file in FILES if file.name.removesuffix(".tsv") in names]
    return {
        file.name: draw.normal(2.5, 3, file.rows).astype(np.float32)
        if file.known.task.kind == "number"
        else draw.integers(0, len(file.known.task.labels), file.rows)
        for file in chosen
    }


@pytest.mark.slow
def test_a_whole_submission_is_what_the_server_takes(tmp_path: Path) -> None:
    assert write_submission(tmp_path / "glue.zip", answers(NAMES)) == ()
    check_submission(tmp_path / "glue.zip")
    with zipfile.ZipFile(tmp_path / "glue.zip") as archive:
        assert sorted(archive.namelist()) == sorted(f"{name}.tsv" for name in NAMES)
        for name in NAMES:
            header, *lines = archive.read(f"{name}.tsv").decode().splitlines()
            assert header == "index\tprediction"
            numbers, predictions = zip(*(line.split("\t") for line in lines), strict=True)
            assert list(numbers) == [str(index) for index in range(ROWS[name])]
            if name == "STS-B":
                assert 0.0 == min(map(float, predictions)) < max(map(float, predictions)) == 5.0
            else:
                assert set(predictions) == WORDS.get(name, {"0", "1"})


def test_missing_files_are_named(tmp_path: Path) -> None:
    missing = write_submission(tmp_path / "glue.zip", answers(["CoLA"]))
    assert sorted(missing) == sorted(f"{name}.tsv" for name in NAMES if name != "CoLA")
    with pytest.raises(DataError, match=r"RTE\.tsv: missing"):
        check_submission(tmp_path / "glue.zip")


def test_a_wrong_number_of_rows_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"RTE\.tsv: 3,000 answers expected, 7 found"):
        write_submission(tmp_path / "glue.zip", {"RTE.tsv": np.zeros(7, np.int64)})
    with pytest.raises(DataError, match="not finite"):
        write_submission(tmp_path / "glue.zip", {"STS-B.tsv": np.full(1379, np.nan)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("index\tprediction", "id\tlabel", "the first line must be"),
        ("\n5\t", "\n6\t", "WNLI.tsv, line 7"),
        ("\n5\t", "\n5\tentailment ", "is not '5', a tab and an answer"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "glue.zip"
    write_submission(path, answers(["WNLI"]))
    with zipfile.ZipFile(path) as archive:
        text = archive.read("WNLI.tsv").decode().replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("WNLI.tsv", text)
        archive.writestr("notes.txt", "")
    with pytest.raises(DataError) as caught:
        check_submission(path)
    assert words in str(caught.value)
    assert "notes.txt: not a file that the server knows" in str(caught.value)


def test_mnli_answers_three_files() -> None:
    assert [file.name for file in files_of("mnli")] == ["MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"]
    assert files_of("imdb") == ()
