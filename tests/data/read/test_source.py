"""Known tasks come from copies in the hub's layout, whole or in part, and say what they are measured on."""

import json
import socket
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from bitfit.data.catalog import KNOWN
from bitfit.data.encode.encoder import tokenize
from bitfit.data.options import DataOptions
from bitfit.data.read.source import load_task, rows_to_answer
from bitfit.errors import DataError, MissingExtraError, RequestError


def put(folder: Path, split: str, columns: dict[str, list[object]], names: dict[str, list[str]] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    features = {column: {"names": found, "_type": "ClassLabel"} for column, found in (names or {}).items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), folder / f"{split}-00000-of-00001.parquet")


def mnli(rows: int, label: int = 0) -> dict[str, list[object]]:
    texts = [f"text {index}" for index in range(rows)]
    return {"premise": texts, "hypothesis": texts, "label": [label] * rows, "idx": list(range(rows))[::-1]}


def glue(tmp_path: Path) -> Path:
    put(tmp_path / "glue" / "mnli", "train", mnli(20))
    put(tmp_path / "glue" / "mnli", "validation_matched", mnli(7, 2))
    put(tmp_path / "glue" / "mnli", "validation_mismatched", mnli(9, 1))
    put(tmp_path / "glue" / "mnli", "test_matched", mnli(5, -1))
    return tmp_path


@pytest.mark.parametrize("inside", ["", "glue", "glue/mnli"])
def test_a_partial_copy_runs_and_says_so(tmp_path: Path, inside: str) -> None:
    table = load_task("mnli", options=DataOptions(data_dir=glue(tmp_path) / inside))
    assert list(table.splits) == ["train", "validation", "validation_mismatched"]
    assert table.measured_on == {
        "train": "20 of 392,702",
        "validation": "7 of 9,815",
        "validation_mismatched": "9 of 9,832",
    }
    assert "validation: 7 of 9,815" in table.notes
    assert table.unlabelled["test"].num_rows == 5
    assert table.task.labels == ("entailment", "neutral", "contradiction")
    assert table.splits["validation"]["label"].to_pylist() == [2] * 7


def test_what_a_copy_lacks_is_said(tmp_path: Path) -> None:
    place = glue(tmp_path)
    (place / "glue" / "mnli" / "validation_mismatched-00000-of-00001.parquet").unlink()
    table = load_task("mnli", options=DataOptions(data_dir=place))
    assert list(table.splits) == ["train", "validation"]
    assert "mnli: not in this copy: validation_mismatched, test_mismatched" in table.notes


def test_a_smaller_part_of_a_partial_copy_is_measured_on_the_release(tmp_path: Path) -> None:
    table = load_task("mnli", options=DataOptions(data_dir=glue(tmp_path), train_size=5))
    assert table.measured_on["train"] == "5 of 392,702"
    assert "train: 5 of 20 rows, drawn by seed 0" in table.notes


def test_what_a_score_is_of_goes_with_the_examples(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    data = tokenize(load_task("mnli", options=DataOptions(data_dir=glue(tmp_path))), tokenizer, cache=None)
    assert data.measured_on["validation"] == "7 of 9,815"


def test_rows_to_answer_are_in_the_releases_order(tmp_path: Path) -> None:
    rows = rows_to_answer(KNOWN["mnli"], "test", DataOptions(data_dir=glue(tmp_path)))
    assert rows.to_pydict()["premise"] == [f"text {index}" for index in (4, 3, 2, 1, 0)]
    with pytest.raises(DataError, match="no split 'test_mismatched'"):
        rows_to_answer(KNOWN["mnli"], "test_mismatched", DataOptions(data_dir=tmp_path))


def test_label_names_in_another_order_are_put_right(tmp_path: Path) -> None:
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0, 1]}
    names = {"label": ["not_entailment", "entailment"]}
    for split in ("train", "validation"):
        put(tmp_path / "glue" / "rte", split, dict(columns), names)
    table = load_task("rte", options=DataOptions(data_dir=tmp_path))
    assert table.task.labels == ("entailment", "not_entailment")
    assert table.splits["train"]["label"].to_pylist() == [1, 0]


def test_validation_is_held_out_of_imdbs_train_with_both_classes(tmp_path: Path) -> None:
    columns = {"text": [f"t{index}" for index in range(100)], "label": [0] * 50 + [1] * 50}
    for split in ("train", "test"):
        put(tmp_path / "imdb" / "plain_text", split, dict(columns))
    first, second = (load_task("imdb", options=DataOptions(data_dir=tmp_path)) for _ in range(2))
    assert {split: rows.num_rows for split, rows in first.splits.items()} == {
        "train": 90,
        "validation": 10,
        "test": 100,
    }
    assert sum(first.splits["validation"]["label"].to_pylist()) == 5
    assert first.splits["validation"].equals(second.splits["validation"])
    assert not set(first.splits["validation"]["text"].to_pylist()) & set(first.splits["train"]["text"].to_pylist())


def test_stsb_without_scores_is_left_to_answer(tmp_path: Path) -> None:
    for split, score in (("train", 3.5), ("validation", 0.0), ("test", -1.0)):
        columns = {"sentence1": ["a"], "sentence2": ["b"], "label": [score]}
        put(tmp_path / "glue" / "stsb", split, columns)
    table = load_task("stsb", options=DataOptions(data_dir=tmp_path))
    assert list(table.splits) == ["train", "validation"]
    assert list(table.unlabelled) == ["test"]


def test_tags_take_the_names_that_the_copy_states(tmp_path: Path) -> None:
    names = {"upos": ["NOUN", "VERB"], "xpos": ["NN", "VB", "."]}
    columns = {"tokens": [["a", "b"], ["c"]], "upos": [[0, 1], [1]], "xpos": [[2, 1], [0]]}
    for split in ("train", "validation", "test"):
        put(tmp_path / "ud_english_ewt", split, dict(columns), names)
    for name, tags, labels in [("ud-ewt", None, names["upos"]), ("ud-ewt", "xpos", names["xpos"])]:
        table = load_task(name, options=DataOptions(data_dir=tmp_path, tags=tags))
        assert table.task.labels == tuple(labels)
        assert table.splits["test"][table.task.label].to_pylist() == columns[table.task.label]
    assert load_task("ud-ewt-xpos", options=DataOptions(data_dir=tmp_path)).task.label == "xpos"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"sentence": ["a"], "labels": [1]}, "lacks the columns label; it has sentence, labels"),
        ({"sentence": ["a"], "label": [["x"]]}, "a column of another type"),
        ({"sentence": ["a", "b"], "label": [1, 7]}, "row 2 has a label that is not one of its labels"),
        ({"sentence": ["a"], "label": [-1]}, "no train split"),
    ],
)
def test_damaged_copies(tmp_path: Path, columns: dict[str, list[object]], words: str) -> None:
    put(tmp_path / "glue" / "cola", "train", columns)
    with pytest.raises(DataError, match=words):
        load_task("cola", options=DataOptions(data_dir=tmp_path))


def test_a_folder_without_the_task(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No copy of 'cola'"):
        load_task("cola", options=DataOptions(data_dir=tmp_path))
    with pytest.raises(DataError, match="is not there"):
        load_task("cola", options=DataOptions(data_dir=tmp_path / "absent"))
    with pytest.raises(DataError, match="not on the hub in a form"):
        load_task("ud-ewt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": "x"}, r"`DataOptions\(label=\.\.\.\)` is for data of your own"),
        ({"kind": "number"}, "kind 'class', not 'number'"),
    ],
)
def test_known_tasks_keep_their_columns(tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        load_task("mnli", options=DataOptions(data_dir=glue(tmp_path), **options))


class Split:
    """As much of a split of `datasets` as is used."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.features = {"text": None, "label": type("Label", (), {"names": ["bad", "good"]})()}

    def flatten_indices(self) -> "Split":
        return self

    @property
    def data(self) -> "Split":
        return self


def test_the_hub_is_asked_for_tasks_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []
    rows = pa.table({"text": [f"t{index}" for index in range(20)], "label": [0, 1] * 10})

    def load_dataset(name: str, config: str | None) -> dict[str, Split]:
        asked.append((name, config))
        return {"train": Split(rows), "validation": Split(rows)}

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    table = load_task("someone/reviews:small")
    assert asked == [("someone/reviews", "small")]
    assert (table.task.name, table.task.labels) == ("reviews", ("bad", "good"))
    assert table.splits["validation"]["label"].to_pylist() == [0, 1] * 10


def test_the_hub_out_of_reach_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise socket.gaierror("no network")

    pytest.importorskip("datasets")
    for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"from the hub: .*\. Without a network use `DataOptions\(data_dir=\.\.\.\)`"):
        load_task("nobody/no-such-data")
    assert time.monotonic() - start < 10  # its own client tries for half a minute


def test_the_hub_out_of_reach_names_the_ways_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str | None) -> None:
        raise ConnectionError("no route")

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    with pytest.raises(DataError, match=r"no route.*`DataOptions\(data_dir=\.\.\.\)`.*rotten-tomatoes"):
        load_task("cola")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"bitfit\[hub\]"):
        load_task("cola")


REAL = {
    "cola": {"train": 8_551, "validation": 1_043},
    "mrpc": {"train": 3_668, "validation": 408},
    "stsb": {"train": 5_749, "validation": 1_500},
    "mnli": {"train": 3_000, "validation": 7_469},
    "imdb": {"train": 22_500, "validation": 2_500, "test": 25_000},
    "ptb-pos": {"train": 3_140, "validation": 423, "test": 351},
    "ud-ewt-xpos": {"train": 12_544, "validation": 2_001, "test": 2_077},
    "squad": {"train": 87_599, "validation": 10_570},
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_copies(real_data: Path, name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    table = load_task(name, options=DataOptions(data_dir=real_data, train_size=50))
    sizes = {split: rows.num_rows for split, rows in table.splits.items()}
    assert sizes == {**REAL[name], "train": 50}
    small = type(table)(table.task, {"train": table.splits["train"]})
    examples = tokenize(small, tokenizer, cache=None).splits["train"]
    assert len(examples) >= 50
    assert examples.lengths.max() <= table.task.max_length
    if table.task.kind != "number":
        assert np.asarray(examples.labels).max() > 0
