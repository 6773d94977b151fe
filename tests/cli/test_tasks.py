"""Every known task trains, is scored and answers a file, each by its one command, on a few rows of the real data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitfit.cli.main import run
from bitfit.data.catalog import KNOWN, Known
from bitfit.data.examples import measured_json

SHARED = Path(__file__).parents[3] / "shared"
MODEL = SHARED / "models" / "bert-tiny-standin"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (MODEL.is_dir() and (SHARED / "data").is_dir()), reason="no real data on this machine"),
]
TRAIN, OTHER = 48, 24  # rows of a sample
Capsys = pytest.CaptureFixture[str]

# What the validation score is said to be of, where the sample of the release is that large.
TASKS = {
    "cola": "24 of 1,043",
    "sst2": "24 of 872",
    "mrpc": "24 of 408",
    "stsb": "24 of 1,500",
    "qqp": "24 of 40,430",
    "mnli": "24 of 9,815",
    "qnli": "24 of 5,463",
    "rte": "24 of 277",
    "imdb": "4",  # two of each class, held out of train
    "squad": "24 of 10,570",
    "ud-ewt": "24 of 2,001",
    "ud-ewt-upos": "24 of 2,001",
    "ud-ewt-xpos": "24 of 2,001",
    "ptb-pos": "24 of 423",
}
ABSENT = {"wnli", "conll2003", "rotten-tomatoes"}  # tasks of which there is no real copy here


def sampled(known: Known, folder: Path) -> Path:
    """A few rows of each part of a task, in the hub's layout; the folder of its files."""
    place = folder / known.folder / known.config
    place.mkdir(parents=True)
    for split in known.split_names:
        name = f"{known.release_name(split)}-00000-of-00001.parquet"
        source = SHARED / "data" / known.folder / known.config / name
        if source.is_file():
            rows = pq.read_table(source)
            count = min(TRAIN if split == "train" else OTHER, rows.num_rows)
            pq.write_table(rows.take(np.linspace(0, rows.num_rows - 1, count).astype(np.int64)), place / name)
    return place


def said(capsys: Capsys, *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def through(capsys: Capsys, folder: Path, task: str, rows: Path, *options: str) -> tuple[dict[str, Any], pa.Table]:
    """Train, score and answer `rows` by one command each: what training said, and the answered rows."""
    delta, out = str(folder / "out.safetensors"), folder / "out.parquet"
    usual = ["--precision", "fp32"]
    trained = said(capsys, "train", task, "--model", str(MODEL), "--epochs", "1", "--out", delta, *usual, *options)
    own = [] if task in KNOWN else ["--task", task]
    scored = said(capsys, "eval", delta, *own, *usual, *options)
    assert scored["measured_on"] == trained["measured_on"][scored["split"]]
    assert scored["scores"] == pytest.approx(trained["scores"][scored["split"]], abs=1e-3)
    columns = [option for option in options if option in ("--tokens", "--text")]
    named = [word for flag in columns for word in (flag, options[options.index(flag) + 1])]
    written = said(capsys, "predict", delta, "--input", str(rows), "--out", str(out), *usual, *named)
    answered = pq.read_table(out)
    assert written["rows"] == answered.num_rows
    return trained, answered


def test_every_known_task_is_here() -> None:
    assert set(TASKS) | ABSENT == set(KNOWN)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_by_its_one_command(name: str, tmp_path: Path, capsys: Capsys) -> None:
    known = KNOWN[name]
    place = sampled(known, tmp_path)
    part = "test" if name == "imdb" else known.release_name("validation")
    rows = place / f"{part}-00000-of-00001.parquet"
    trained, answered = through(capsys, tmp_path, name, rows, "--data-dir", str(tmp_path))
    assert list(trained["scores"]["validation"]) == list(known.task.metrics)
    assert trained["measured_on"]["validation"] == measured_json({"validation": TASKS[name]})["validation"]
    assert answered.num_rows == OTHER
    assert answered[known.task.texts[0]].to_pylist() == pq.read_table(rows)[known.task.texts[0]].to_pylist()
    if known.task.kind == "class":
        assert set(answered["answer"].to_pylist()) <= set(known.task.labels)
    if known.task.kind == "tags":
        pairs = zip(answered["tokens"].to_pylist(), answered["answer"].to_pylist(), strict=True)
        assert all(len(words) == len(tags) for words, tags in pairs)
    if known.task.kind == "span":
        pairs = zip(answered["context"].to_pylist(), answered["answer"].to_pylist(), strict=True)
        assert all(answer in context for context, answer in pairs)


def test_wnli_from_a_copy_in_the_hubs_layout(tmp_path: Path, capsys: Capsys) -> None:
    """There is no real copy: the pairs are those of RTE, which have its columns."""
    place = sampled(KNOWN["rte"], tmp_path)
    place.rename(place.with_name("wnli"))
    rows = place.with_name("wnli") / "validation-00000-of-00001.parquet"
    for path in rows.parent.glob("*.parquet"):  # RTE's names of its labels, in RTE's order, are not WNLI's
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    trained, answered = through(capsys, tmp_path, "wnli", rows, "--data-dir", str(tmp_path))
    assert trained["measured_on"]["validation"] == {"rows": 24, "of": 71}
    assert set(answered["answer"].to_pylist()) <= {"entailment", "not_entailment"}


def sentences(split: str) -> list[tuple[list[str], list[str]]]:
    """Real sentences with the names in them marked: a run of proper nouns is one name."""
    rows = pq.read_table(SHARED / "data" / "ud_english_ewt" / f"{split}-00000-of-00001.parquet")
    names = json.loads(rows.schema.metadata[b"huggingface"])["info"]["features"]["upos"]["feature"]["names"]
    found = []
    for words, tags in zip(rows["tokens"].to_pylist()[:60], rows["upos"].to_pylist()[:60], strict=True):
        proper = [names[tag] == "PROPN" for tag in tags]
        before = [False, *proper[:-1]]
        marks = [("I-NAME" if old else "B-NAME") if new else "O" for new, old in zip(proper, before, strict=True)]
        found.append((words, marks))
    return found


def test_names_from_conll_columns(tmp_path: Path, capsys: Capsys) -> None:
    data = tmp_path / "names"
    data.mkdir()
    for split, name in (("train", "train.txt"), ("validation", "dev.txt"), ("test", "test.txt")):
        blocks = ["\n".join(f"{word} - {tag}" for word, tag in zip(*pair, strict=True)) for pair in sentences(split)]
        (data / name).write_text("-DOCSTART- - O\n\n" + "\n\n".join(blocks) + "\n", encoding="utf-8")
    trained, answered = through(capsys, tmp_path, str(data), data / "test.txt")
    assert list(trained["scores"]["test"]) == ["entity_f1", "accuracy"]
    assert trained["measured_on"] == {"train": 60, "validation": 60, "test": 60}
    assert {tag for tags in answered["answer"].to_pylist() for tag in tags} <= {"O", "B-NAME", "I-NAME"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_own_rows_in_each_format(ending: str, tmp_path: Path, capsys: Capsys) -> None:
    rows = pq.read_table(SHARED / "data" / "glue" / "sst2" / "validation-00000-of-00001.parquet").slice(0, 60)
    texts, labels = (
        rows["sentence"].to_pylist(),
        ["bad" if label == 0 else "good" for label in rows["label"].to_pylist()],
    )
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"opinion": texts, "mood": labels}), path)
    elif ending == "jsonl":
        lines = ({"opinion": text, "mood": label} for text, label in zip(texts, labels, strict=True))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        comma, quote = (",", '"') if ending == "csv" else ("\t", "")
        doubled = [text.replace('"', '""') if quote else text for text in texts]
        lines = [f"{quote}{text}{quote}{comma}{label}\n" for text, label in zip(doubled, labels, strict=True)]
        path.write_text(f"opinion{comma}mood\n" + "".join(lines))
    trained, answered = through(capsys, tmp_path, str(path), path, "--text", "opinion", "--label", "mood")
    assert trained["measured_on"]["train"] == 54
    assert answered["opinion"].to_pylist() == texts
    assert set(answered["answer"].to_pylist()) <= {"bad", "good"}
