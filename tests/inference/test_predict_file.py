"""A file answered a part at a time: order, columns, memory, and the same bytes after a kill at any chunk."""

import csv
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bitfit
from bitfit.backbone.load import Backbone
from bitfit.data.read import inputs as inputs_module
from bitfit.data.read.chunk import Chunk
from bitfit.data.read.formats import read_chunks
from bitfit.data.text_format import TextFormat
from bitfit.delta.delta import Delta
from bitfit.errors import DataError, RequestError
from bitfit.inference import predict_file as module
from bitfit.inference.predict_file import InputFile, Written, predict_file
from bitfit.inference.predictor import Answer, Predictor
from bitfit.watcher import Watcher
from tests.training.trained import TASKS, rows, sentence, trained

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not

SIZE = 23  # rows, in parts of 4
ENDINGS = (".csv", ".jsonl", ".parquet")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 4)


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Backbone, Delta]]:
    return {kind: trained(kind) for kind in TASKS}


def written(path: Path, kind: str = "class") -> Path:
    """A file to answer, with columns of its own beside the task's."""
    columns = {name: rows(kind, SIZE)[name] for name in TASKS[kind].texts}
    table = pa.table({"number": range(SIZE), **columns, "note": [f'a "{i}",\nb' for i in range(SIZE)]})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([table.column_names, *(row.values() for row in table.to_pylist())])
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", TASKS)
def test_rows_keep_their_order_and_columns_beside_their_answers(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path, kind: str, ending: str
) -> None:
    source, out = written(tmp_path / "in.jsonl", kind), tmp_path / f"out{ending}"
    assert predict_file(*made[kind], source, out, precision="fp32") == Written(SIZE, 0)
    asked: list[Any] = [tuple(row[name] for name in TASKS[kind].texts) for row in read(source)]
    answers = bitfit.predict(*made[kind], [row[0] if len(row) == 1 else row for row in asked], "fp32")
    for before, after, answer in zip(read(source), read(out), answers, strict=True):
        if ending == ".csv":
            before = {name: json.dumps(own) if isinstance(own, list) else str(own) for name, own in before.items()}
        assert list(after)[: len(before)] == list(before)
        assert {name: after[name] for name in before} == before
        if kind == "number":
            assert float(after["answer"]) == pytest.approx(answer.value, abs=1e-4)
        else:
            assert after["answer"] == (
                json.dumps(answer.value) if (kind in ("labels", "tags") and ending == ".csv") else answer.value
            )
        if kind == "span":
            assert int(after["answer_start"]) == answer.best[0].start
    assert not (tmp_path / f"out{ending}.partial").exists()


def test_a_parquet_file_keeps_its_types(made: dict[str, tuple[Backbone, Delta]], tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array([sentence(i) for i in range(9)]).dictionary_encode(),
            "small": pa.array([1, None] * 4 + [3], pa.int8()),
            "day": pa.array(range(9), pa.date32()),
            "nested": [{"a": [i]} for i in range(9)],
            "empty": pa.array([None] * 9, pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    predict_file(*made["class"], str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))  # texts are as good
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(["small", "day", "nested", "empty"]) == table.select(["small", "day", "nested", "empty"])
    assert found.column_names[5:] == ["answer", "answer_score"]


def test_json_lines_may_lack_columns_and_mix_types(made: dict[str, tuple[Backbone, Delta]], tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"text": sentence(i)} for i in range(9)]
    lines[1]["mixed"], lines[7]["mixed"], lines[8]["late"] = 1, "one", 2.5
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    for ending in (".jsonl", ".parquet"):
        predict_file(*made["class"], tmp_path / "in.jsonl", tmp_path / f"out{ending}")
        found = read(tmp_path / f"out{ending}")
        assert [row["late"] for row in found] == [None] * 8 + [2.5]
        assert [found[1]["mixed"], found[7]["mixed"]] == [1 if ending == ".jsonl" else "1", "one"]


class KilledError(Exception):
    """What ends the process in these tests."""


class KilledAfter(Watcher):
    """Ends the process after some parts."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.notes: list[str] = []

    def answered(self, done: int, rows: int, before: int) -> None:
        self.parts -= 1
        if not self.parts:
            raise KilledError

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("parts", [1, 3, 6])
def test_after_a_kill_the_same_call_ends_with_the_same_bytes(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path, parts: int, ending: str
) -> None:
    source = written(tmp_path / "in.csv")
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    predict_file(*made["class"], source, whole)
    with pytest.raises(KilledError):
        predict_file(*made["class"], source, out, watcher=KilledAfter(parts))
    assert not out.exists()
    (tmp_path / f"out{ending}.partial" / ".00000005.ab.part").write_bytes(b"half")
    assert predict_file(*made["class"], source, out) == Written(SIZE, min(4 * parts, SIZE))
    assert out.read_bytes() == whole.read_bytes()


def test_a_kill_while_the_whole_is_made_loses_nothing(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = written(tmp_path / "in.csv"), tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        patch.setattr("bitfit.files.os.fsync", _killed)
        patch.setattr(
            "bitfit.inference.predict_file.write_whole", lambda path, parts: path.write_bytes(b"".join(parts))
        )
        with pytest.raises(KilledError):
            predict_file(*made["class"], source, out)
    assert not out.exists()
    assert predict_file(*made["class"], source, out) == Written(SIZE, SIZE)
    assert len(read(out)) == SIZE


def _killed(*_: Any) -> None:
    raise KilledError


def test_other_work_under_the_same_name_is_not_gone_on_from(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path
) -> None:
    source, out = written(tmp_path / "in.csv"), tmp_path / "out.csv"
    with pytest.raises(KilledError):
        predict_file(*made["class"], source, out, watcher=KilledAfter(2))
    source.write_text(source.read_text().replace("w4", "w5"))
    watcher = KilledAfter(-1)
    assert predict_file(*made["class"], source, out, watcher=watcher) == Written(SIZE, 0)
    assert "holds the beginning of other work" in watcher.notes[-1]
    with pytest.raises(KilledError):
        predict_file(*made["class"], source, out, watcher=KilledAfter(2))
    other = replace(made["class"][1], task=replace(TASKS["class"], labels=("a", "b", "c")))
    predict_file(made["class"][0], other, source, out)
    assert {row["answer"] for row in read(out)} <= {"a", "b", "c"}


def test_memory_does_not_grow_with_the_file(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Chunk] = weakref.WeakSet()
    most_parts, most_rows = [], []

    def counted(path: Path, size: int, written: TextFormat) -> Iterator[Chunk]:
        for chunk in read_chunks(path, size, written):
            alive.add(chunk)
            most_parts.append(len(alive))
            yield chunk

    def answers(self: Predictor, table: pa.Table) -> list[Answer]:
        most_rows.append(table.num_rows)
        return [Answer("no", {"no": 1.0})] * table.num_rows

    monkeypatch.setattr(module, "read_chunks", counted)
    monkeypatch.setattr(inputs_module, "read_chunks", counted)
    monkeypatch.setattr(Predictor, "answers", answers)
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "w5 w6\n" * 200)
    assert predict_file(*made["class"], source, tmp_path / "out.parquet").rows == 200
    assert max(most_parts) <= 2  # one in hand while the next is read
    assert max(most_rows) == 4
    assert len(most_rows) == 50


def test_all_problems_are_named_before_anything_is_answered(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path
) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    lines = ["text,more", *("w5,x" for _ in range(9)), ",x", "w5,x,y", b"w5,\xff".decode(errors="surrogateescape")]
    source.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(DataError, match="2 problems") as caught:
        predict_file(*made["class"], source, out)
    for words in (
        "row 11: 2 fields expected, 3 found",
        "row 12, column 'more': not UTF-8",
    ):
        assert words in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", TASKS)
def test_a_row_that_cannot_be_used_keeps_its_place_and_gets_an_empty_answer(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path, kind: str, ending: str
) -> None:
    whole, holed = read(written(tmp_path / "whole.jsonl", kind)), tmp_path / "holed.jsonl"
    bad = {0: None, 5: " ", 8: 3, 9: "", 10: [], 11: None, 22: ""}  # rows 8 to 11 are a part of the work
    first = TASKS[kind].texts[0]
    holed.write_text("".join(json.dumps({**row, first: bad.get(i, row[first])}) + "\n" for i, row in enumerate(whole)))
    heard = KilledAfter(-1)
    predict_file(*made[kind], tmp_path / "whole.jsonl", tmp_path / "whole-out.jsonl", precision="fp32")
    done = predict_file(*made[kind], holed, tmp_path / f"out{ending}", precision="fp32", watcher=heard)
    assert done == Written(SIZE, 0, unanswered=len(bad))
    assert any("7 of 23 rows cannot be used and get an empty answer: " in note for note in heard.notes)
    found, expected = read(tmp_path / f"out{ending}"), read(tmp_path / "whole-out.jsonl")
    answers = [name for name in expected[0] if name.startswith("answer")]
    assert [row["number"] for row in found] == [str(i) if ending == ".csv" else i for i in range(SIZE)]
    for i, (row, sound) in enumerate(zip(found, expected, strict=True)):
        if i in bad:
            assert [row[name] for name in answers] == ["" if ending == ".csv" else None] * len(answers)
        elif kind in ("class", "pair"):
            assert row["answer"] == sound["answer"]
            assert float(row["answer_score"]) == pytest.approx(sound["answer_score"], abs=1e-4)


def test_after_a_kill_rows_without_an_answer_stay_so(made: dict[str, tuple[Backbone, Delta]], tmp_path: Path) -> None:
    source, whole, out = tmp_path / "in.csv", tmp_path / "whole.csv", tmp_path / "out.csv"
    source.write_text("text,n\n" + "".join(f"{sentence(i) if i % 3 else ''},{i}\n" for i in range(SIZE)))
    predict_file(*made["class"], source, whole)
    with pytest.raises(KilledError):
        predict_file(*made["class"], source, out, watcher=KilledAfter(3))
    assert predict_file(*made["class"], source, out) == Written(SIZE, 12, unanswered=8)
    assert out.read_bytes() == whole.read_bytes()


def test_an_encoding_and_a_delimiter_are_part_of_the_work(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path
) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_bytes(b"text;more\n" + b"w5 w6;caf\xe9\n" * 9)
    with pytest.raises(DataError, match=r"`delimiter=';'`"):
        predict_file(*made["class"], source, out)
    with pytest.raises(DataError, match=r"8 more of its values are not UTF-8\. .* `encoding='latin-1'`"):
        predict_file(*made["class"], InputFile(source, delimiter=";"), out)
    with pytest.raises(KilledError):
        predict_file(*made["class"], InputFile(source, encoding="cp1251", delimiter=";"), out, watcher=KilledAfter(2))
    assert predict_file(*made["class"], InputFile(source, encoding="latin-1", delimiter=";"), out) == Written(9, 0)
    assert {row["more"] for row in read(out)} == {"café"}


def test_columns_of_other_names(made: dict[str, tuple[Backbone, Delta]], tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text("message,answer\nw5 w6,x\nw7,y\n")
    with pytest.raises(DataError, match=r"in\.csv: no column 'text'\. Known: message, answer\. Name the file's own"):
        predict_file(*made["class"], source, out)
    with pytest.raises(RequestError, match="has a column 'answer' already"):
        predict_file(*made["class"], InputFile(source, {"text": "message"}), out)
    predict_file(*made["class"], InputFile(str(source), {"text": "message"}, "found"), out)  # type: ignore[arg-type]
    assert [list(row) for row in read(out)] == [["message", "answer", "found", "found_score"]] * 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.xlsx", "Nothing is written as 'out.xlsx'. Known: .csv, .jsonl, .ndjson, .parquet"),
        ("in.csv", "is the input itself"),
        ("no/out.csv", "a folder that does not exist"),
    ],
)
def test_where_nothing_can_be_written(
    made: dict[str, tuple[Backbone, Delta]], tmp_path: Path, name: str, words: str
) -> None:
    source = written(tmp_path / "in.csv")
    with pytest.raises(RequestError, match=words):
        predict_file(*made["class"], source, tmp_path / name)


def test_one_process_at_a_time(made: dict[str, tuple[Backbone, Delta]], tmp_path: Path) -> None:
    source, out = written(tmp_path / "in.csv"), tmp_path / "out.csv"

    class Second(Watcher):
        def answered(self, done: int, rows: int, before: int) -> None:
            with pytest.raises(RequestError, match="Another process is making"):
                predict_file(*made["class"], source, out)

    predict_file(*made["class"], source, out, watcher=Second())
    assert len(read(out)) == SIZE
