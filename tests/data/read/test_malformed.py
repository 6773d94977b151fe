"""A thousand random malformed files: each is refused by a BitfitError, or read as an independent reader reads it."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitfit.data.options import DataOptions
from bitfit.data.read.source import load_task
from bitfit.data.table import TaskTable
from bitfit.errors import BitfitError, DataError

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not

QUICK = settings(
    derandomize=True,
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
TEXTS = [f'a text, number {index} "quoted" é' for index in range(12)]
LABELS = ["no", "yes"] * 6
Damage = Callable[[bytes], bytes]


def as_csv() -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([("text", "label"), *zip(TEXTS, LABELS, strict=True)])
    return file.getvalue().encode()


def as_jsonl() -> bytes:
    rows = zip(TEXTS, LABELS, strict=True)
    return b"".join(json.dumps({"text": text, "label": label}).encode() + b"\n" for text, label in rows)


def as_conllu() -> bytes:
    words = [f"{n}\tword{n}\t_\tNOUN\tNN\t_\t0\troot\t_\t_\n" for n in (1, 2)]
    return ("".join([*words[:1], words[1].replace("NOUN", "VERB").replace("NN", "VB"), "\n"]) * 12).encode()


WHOLE = {".csv": as_csv(), ".jsonl": as_jsonl(), ".conllu": as_conllu()}
WHOLE[".tsv"] = b"text\tlabel\n" + b"".join(
    f"{text}\t{label}\n".encode() for text, label in zip(TEXTS, LABELS, strict=True)
)

positions = st.integers(0, 2_000)
bits = st.sampled_from([b"\xff", b"\0", b'"', b",", b"\n", b"\t", b"{", b"}", b"[", b"\\", b"\xc3", b"1", b" ", b"\r"])
damages = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), positions, bits),
        st.tuples(st.just("delete"), positions, st.integers(1, 40)),
        st.tuples(st.just("cut"), positions, st.just(0)),
        st.tuples(st.just("swap"), positions, st.integers(1, 200)),
        st.tuples(st.just("replace"), positions, st.binary(min_size=1, max_size=6)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, steps: list[tuple[str, int, object]]) -> bytes:
    for kind, position, value in steps:
        at = position % (len(content) + 1)
        if kind in ("insert", "replace"):
            assert isinstance(value, bytes)
            rest = at + (len(value) if kind == "replace" else 0)
            content = content[:at] + value + content[rest:]
        elif kind == "delete":
            assert isinstance(value, int)
            content = content[:at] + content[at + value :]
        elif kind == "cut":
            content = content[:at]
        else:
            assert isinstance(value, int)
            content = content[at : at + value] + content[:at] + content[at + value :]
    return content


def independent_rows(suffix: str, content: bytes) -> list[tuple[str, str]]:
    """What the file says, by the plainest reading: text and label of each row."""
    text = content.decode("utf-8-sig")
    if suffix == ".jsonl":
        objects = [json.loads(line) for line in text.split("\n") if line.strip()]
        return [(row["text"], str(row["label"]).strip()) for row in objects]
    if suffix == ".tsv":
        lines = [line.split("\t") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line]
    else:
        lines = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    names = [name.strip() for name in lines[0]]
    where = names.index("text"), names.index("label")
    return [(row[where[0]], row[where[1]].strip()) for row in lines[1:]]


def read_or_refused(path: Path, options: DataOptions) -> TaskTable | None:
    """The table, or None where it was refused; any other exception fails the test."""
    try:
        return load_task(str(path), options=options)
    except BitfitError as error:
        if path.stem not in str(error):
            raise
        return None


def labelled_file(table: TaskTable) -> list[tuple[str, str]]:
    found = [tuple(pair) for split in table.splits.values() for pair in zip(*split.to_pydict().values(), strict=True)]
    return sorted((text, table.task.labels[label]) for text, label in found)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".tsv"])
@QUICK
@given(steps=damages)
@pytest.mark.slow
def test_damaged_rows_are_refused_or_read_right(
    tmp_path: Path, suffix: str, steps: list[tuple[str, int, object]]
) -> None:
    content = damaged(WHOLE[suffix], steps)
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    options = DataOptions(text="text", label="label", kind="class")
    table = read_or_refused(path, options)
    if table is None:
        return
    assert labelled_file(table) == sorted(independent_rows(suffix, content))
    for text, label in labelled_file(table):
        assert text.strip()
        assert label


@QUICK
@given(steps=damages)
@pytest.mark.slow
def test_damaged_treebanks_lose_no_sentence_silently(tmp_path: Path, steps: list[tuple[str, int, object]]) -> None:
    path = tmp_path / "mine.conllu"
    content = damaged(WHOLE[".conllu"], steps)
    path.write_bytes(content)
    table = read_or_refused(path, DataOptions())
    if table is None:
        return
    lines = content.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    words = [line for line in lines if line.strip() and line.split("\t")[0].isdigit()]
    assert sum(len(row) for split in table.splits.values() for row in split["tokens"].to_pylist()) == len(words)


@settings(QUICK, max_examples=100)
@given(
    content=st.binary(max_size=300),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".conll", ".pos", ".mrg"]),
    encoding=st.sampled_from([None, "utf-16", "cp1252", "shift-jis"]),
    skip=st.booleans(),
)
def test_noise_is_refused(tmp_path: Path, content: bytes, suffix: str, encoding: str | None, skip: bool) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    with pytest.raises(BitfitError):
        load_task(str(path), options=DataOptions(encoding=encoding, skip_bad_rows=skip))


WRITTEN = [(code, mark) for code in ("utf-8", "latin-1", "cp1251", "utf-16", "shift-jis") for mark in ",;\t|^"]


@settings(QUICK, max_examples=100)
@given(
    written=st.sampled_from(WRITTEN),
    suffix=st.sampled_from([".csv", ".jsonl"]),
    ends=st.lists(st.text(max_size=20), min_size=4, max_size=12),
)
def test_what_was_written_in_an_encoding_and_with_a_delimiter_is_what_is_read(
    tmp_path: Path, written: tuple[str, str], suffix: str, ends: list[str]
) -> None:
    encoding, delimiter = written
    known = [end.replace("\0", "").encode(encoding, "ignore").decode(encoding) for end in ends]
    rows = [(f"text {number} {end}", LABELS[number]) for number, end in enumerate(known)]
    file = io.StringIO(newline="")
    if suffix == ".csv":
        csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *rows])
    else:
        for text, label in rows:
            file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(file.getvalue().encode(encoding))
    options = DataOptions(
        text="text", label="label", kind="class", encoding=encoding, delimiter=delimiter if suffix == ".csv" else None
    )
    assert labelled_file(load_task(str(path), options=options)) == sorted(rows)


WRONG_ROWS = {
    "empty text": (',"yes"', "the text is empty"),
    "blank text": ('"  ",yes', "the text is empty"),
    "no label": ("words,", "the label is missing"),
    "too many fields": ("a,b,c", "2 fields expected, 3 found"),
    "too few fields": ("alone", "2 fields expected, 1 found"),
    "a null byte": ("a\0b,yes", "NUL"),
}


wrong_rows = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(sorted(WRONG_ROWS))), min_size=1, max_size=5)


def with_wrong_rows(path: Path, places: list[tuple[int, str]]) -> list[str]:
    """A file with such rows between the good ones; what is wrong with each."""
    lines = as_csv().decode().splitlines()
    wanted = []
    for at, name in sorted(places):
        lines.insert(1 + at + len(wanted), WRONG_ROWS[name][0])
        wanted.append(WRONG_ROWS[name][1])
    path.write_text("\n".join(lines) + "\n")
    return wanted


@settings(QUICK, max_examples=60)
@given(places=wrong_rows)
def test_rows_that_are_skipped_are_the_wrong_ones_and_no_others(tmp_path: Path, places: list[tuple[int, str]]) -> None:
    path = tmp_path / "mine.csv"
    wanted = with_wrong_rows(path, places)
    table = load_task(str(path), options=DataOptions(skip_bad_rows=True))
    assert labelled_file(table) == sorted(zip(TEXTS, LABELS, strict=True))
    notes = [note for note in table.notes if "left out" in note]
    assert len(notes) == 1
    assert notes[0].startswith("train: 1 row that" if len(wanted) == 1 else f"train: {len(wanted)} rows that")
    assert notes[0].count(", row ") == min(len(wanted), 3)


@settings(QUICK, max_examples=60)
@given(places=wrong_rows)
def test_every_wrong_row_is_named(tmp_path: Path, places: list[tuple[int, str]]) -> None:
    path = tmp_path / "mine.csv"
    wanted = with_wrong_rows(path, places)
    with pytest.raises(DataError) as caught:
        load_task(str(path))
    rows = [(line.split("row ")[1], words) for line, words in zip(caught.value.problems, wanted, strict=False)]
    assert len(caught.value.problems) == len(wanted)
    assert sorted(words for _, words in rows) == sorted(wanted)
    listed = " ".join(caught.value.problems)
    assert all(words in listed for words in wanted)
