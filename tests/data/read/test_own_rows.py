"""One's own files: columns and kind are found and said, and every problem is named by file, row and column."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitfit.data.options import DataOptions
from bitfit.data.read.check import MOST_CHARACTERS
from bitfit.data.read.source import load_task
from bitfit.errors import BitfitError, DataError, RequestError

ROWS = [(f"text number {index}", "yes" if index % 3 else "no") for index in range(30)]


def write_csv(path: Path, rows: list[tuple[str, ...]], header: str = "text,label") -> Path:
    lines = [",".join(f'"{field}"' for field in row) for row in rows]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_task(str(path), options=DataOptions(**options))
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    if suffix == ".csv":
        write_csv(path, ROWS)
    elif suffix == ".tsv":
        path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS))
    elif suffix == ".jsonl":
        write_jsonl(path, [{"text": text, "label": label} for text, label in ROWS])
    else:
        pq.write_table(pa.table(columns), path)
    table = load_task(str(path))
    assert (table.task.kind, table.task.texts, table.task.label) == ("class", ("text",), "label")
    assert table.task.labels == ("no", "yes")
    assert table.task.name == "mine"
    found = [pair for split in table.splits.values() for pair in zip(*split.to_pydict().values(), strict=True)]
    assert sorted((text, table.task.labels[label]) for text, label in found) == sorted(ROWS)


def test_what_was_guessed_and_held_out_is_said(tmp_path: Path) -> None:
    table = load_task(str(write_csv(tmp_path / "mine.csv", ROWS)))
    assert "columns: text 'text', label 'label'" in table.notes
    assert "kind of task: class, by the values of 'label'" in table.notes
    assert "validation: 3 rows, 10% of each class held out of train by a fixed seed" in table.notes
    assert "train: 27 rows of 2 classes: yes 66.7%, no 33.3%" in table.notes
    held = table.splits["validation"]["label"].to_pylist()
    assert sorted(held) == [0, 1, 1]


def test_unbalanced_classes_are_reported(tmp_path: Path) -> None:
    rows = [(f"t{index}", "rare" if index < 2 else "usual") for index in range(50)]
    notes = " ".join(load_task(str(write_csv(tmp_path / "mine.csv", rows))).notes)
    assert "unbalanced: answering 'usual' always would be right 97.7%" in notes
    assert "classes with a single row in train: rare" in notes


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        (["0", "1"], "class", ("0", "1")),
        (["2", "10", "1"], "class", ("1", "2", "10")),
        (["0.5", "1", "2.25"], "number", ()),
        ([str(value) for value in range(25)], "number", ()),
        (["true", "false"], "class", ("false", "true")),
    ],
)
def test_kind_by_values(tmp_path: Path, labels: list[str], kind: str, names: tuple[str, ...]) -> None:
    rows = [(f"t{index}", labels[index % len(labels)]) for index in range(100)]
    task = load_task(str(write_csv(tmp_path / "mine.csv", rows))).task
    assert (task.kind, task.labels) == (kind, names)


def test_the_kind_may_be_said(tmp_path: Path) -> None:
    rows = [(f"t{index}", str(index % 5)) for index in range(50)]
    options = DataOptions(kind="number")
    table = load_task(str(write_csv(tmp_path / "mine.csv", rows)), options=options)
    assert table.task.kind == "number"
    assert table.splits["train"]["label"].type == pa.float32()


def test_pairs_and_named_columns(tmp_path: Path) -> None:
    rows = [(f"a{index}", f"b{index}", "x" if index % 2 else "y") for index in range(20)]
    pair = load_task(str(write_csv(tmp_path / "pair.csv", rows, "premise,hypothesis,label")))
    assert pair.task.texts == ("premise", "hypothesis")
    options = DataOptions(text="left", text_pair="right", label="same")
    named = load_task(str(write_csv(tmp_path / "own.csv", rows, "left,right,same")), options=options)
    assert (named.task.texts, named.task.label) == (("left", "right"), "same")


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    rows = [*ROWS, ("", "yes"), ("fine", ""), ("x" * (MOST_CHARACTERS + 1), "no")]
    message = refusal(write_csv(tmp_path / "mine.csv", rows))
    assert "3 problems" in message
    assert "mine.csv, row 31, column 'text': the text is empty" in message
    assert "mine.csv, row 32, column 'label': the label is missing" in message
    assert "mine.csv, row 33, column 'text': the text has 1,000,001 characters" in message
    assert [line.split("row ")[1][:2] for line in message.splitlines()[1:]] == ["31", "32", "33"]


def test_numbers_of_few_values_are_told_how_to_be_the_other_kind(tmp_path: Path) -> None:
    halves = load_task(str(write_csv(tmp_path / "half.csv", [(f"text {i}", f"{i % 3 / 2}") for i in range(30)])))
    assert halves.task.kind == "number"
    assert any(
        "number, by the values of 'label' (`DataOptions(kind='class')` makes a class of each of its 3 values)" in n
        for n in halves.notes
    )
    whole = load_task(str(write_csv(tmp_path / "whole.csv", [(f"text {i}", f"{i % 3}.0") for i in range(30)])))
    assert whole.task.kind == "class"
    assert (
        "kind of task: class, by the values of 'label' (`DataOptions(kind='number')` predicts them as a number)"
        in whole.notes
    )


def test_bytes_that_are_not_utf8_have_their_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"text,label\ngood,yes\nd\xe9j\xe0 vu,no\nx,yes\nx,y\xe9s\n")
    message = refusal(path)
    assert "row 2, column 'text': not UTF-8: 'déjà vu' in latin-1; 1 more of its values are not UTF-8." in message
    assert "name it, as in `encoding='latin-1'`" in message
    assert len(message.splitlines()) == 2  # one cause, one line
    path.write_bytes(b"text,label\n,yes\nx,y\xe9s\nx,no\ny,yes\n")
    assert "row 1, column 'text': the text is empty" in refusal(path)
    path.write_bytes("text,label\ngood,yes\n".encode("utf-16"))
    assert "Name its encoding, as in `encoding='utf-16'`" in refusal(path)


def test_labels_unseen_in_training(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "validation.csv", [("a", "yes"), ("b", "perhaps")])
    message = refusal(tmp_path)
    assert "validation.csv, row 2, column 'label': the label 'perhaps' is not among those of train (no, yes)" in message


def test_an_odd_label_among_numbers_is_a_mistake_not_a_class(tmp_path: Path) -> None:
    rows = [(f"t{index}", str(index % 2)) for index in range(40)]
    assert "the label 'o' is not among" in refusal(write_csv(tmp_path / "mine.csv", [*rows, ("t", "o")]))
    rows = [(f"t{index}", str(index / 7)) for index in range(40)]
    assert "expected a number, found '3,5'" in refusal(write_csv(tmp_path / "mine.csv", [*rows, ("t", "3,5")]))


def test_absent_columns_name_the_nearest(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", ROWS, "review_text,verdict")
    message = refusal(path, text="review_txt", label="verdct")
    assert "`DataOptions(text='review_txt')`: no such column. Did you mean 'review_text'?" in message
    assert "`DataOptions(label='verdct')`" in message


def test_a_column_absent_in_one_part(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "validation.csv", ROWS, "texts,label")
    assert "validation.csv: no column 'text'; found texts, label" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no header"),
        ("text,label\n", "no rows to train on"),
        ("text;label\na;b\n", "Split at ';' it has 2: text, label. Give `delimiter=';'`."),
        ("text,text\na,b\n", "names a column twice"),
        ("text,label\na,b,c\nd,e\n", "row 1: 2 fields expected, 3 found"),
        ('text,label\n"a,yes\nb,no\n', "nothing after it was read"),
        ("text,label\na,same\nb,same\n", "has one label alone (same); at least 2 are needed"),
        ("a,b,c\n1,2,3\n", "which column is the label"),
        ("a,b,label\nx,y,1\n", "which column is the text"),
        ("text,label\n" + "".join(f"a,unique {i}\n" for i in range(20)), "is no class"),
    ],
)
def test_malformed_csv(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "mine.csv").write_text(content)
    assert words in refusal(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a", "label": "x"', "row 3: "),
        ('["a", "x"]', "expected a JSON object"),
        ('{"text": "a", "text": "b", "label": "x"}', "a name occurs twice"),
        ('{"text": 5, "label": "x"}', "column 'text': expected a text, found 5"),
        ('{"text": "a"}', "column 'label': the label is missing"),
        ('{"text": "a", "label": ["x"]}', "expected a label, found ['x']"),
        ('{"text": "a", "label": NaN}', "NaN is not JSON"),
        ('{"text": "\\ud800", "label": "x"}', "not UTF-8"),
        ('{"text": "a\\u0000b", "label": "x"}', "NUL"),
    ],
)
def test_malformed_json_lines(tmp_path: Path, line: str, words: str) -> None:
    good = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
    (tmp_path / "mine.jsonl").write_text(good + line + "\n")
    message = refusal(tmp_path / "mine.jsonl")
    assert words in message
    assert "row 3" in message


def test_malformed_parquet(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    path.write_bytes(b"PAR1 no more")
    assert "is not a readable Parquet file" in refusal(path)
    text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xe9")]
    )
    pq.write_table(pa.table({"text": text, "label": ["x", "y"]}), path)
    assert "row 2, column 'text': not UTF-8" in refusal(path)


def test_label_names_stated_by_a_file_are_kept(tmp_path: Path) -> None:
    features = {"label": {"names": ["z first", "a second"], "_type": "ClassLabel"}}
    schema = pa.schema(
        [("text", pa.string()), ("label", pa.int64())],
        {"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = pa.table({"text": [f"t{i}" for i in range(20)], "label": [i % 2 for i in range(20)]}, schema)
    pq.write_table(rows, tmp_path / "mine.parquet")
    assert load_task(str(tmp_path / "mine.parquet")).task.labels == ("z first", "a second")
    pq.write_table(rows.set_column(1, "label", pa.array([5] * 20)).cast(schema), tmp_path / "mine.parquet")
    assert "the label is missing" in refusal(tmp_path / "mine.parquet")


def test_a_folder_of_parts(tmp_path: Path) -> None:
    for name in ("en-ud-train", "dev", "test"):
        write_csv(tmp_path / f"{name}.csv", ROWS)
    (tmp_path / "README.md").write_text("about")
    table = load_task(str(tmp_path))
    assert {split: rows.num_rows for split, rows in table.splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), 30
    )
    assert "not read: README.md" in table.notes
    assert "test: 30 of 30 rows have texts that are in train too" in table.notes


def test_a_test_part_without_labels_is_left_to_predict(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "test.csv", [("a",), ("b",)], "text")
    table = load_task(str(tmp_path))
    assert list(table.splits) == ["train", "validation"]
    assert any(note.startswith("test: no labels") for note in table.notes)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no train file" in refusal(tmp_path)
    write_csv(tmp_path / "train.csv", ROWS)
    write_jsonl(tmp_path / "train.jsonl", [])
    assert "in several kinds" in refusal(tmp_path)


def test_tags_from_json_lines(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["X", "Y"]}] * 10
    table = load_task(str(write_jsonl(tmp_path / "mine.jsonl", rows)))
    assert (table.task.kind, table.task.labels) == ("tags", ("X", "Y"))
    assert table.splits["train"]["tags"].to_pylist()[0] == [0, 1]
    bad = [{"tokens": ["a"], "tags": ["X", "Y"]}, {"tokens": [], "tags": []}, {"tokens": ["a", ""], "tags": ["X", "X"]}]
    message = refusal(write_jsonl(tmp_path / "mine.jsonl", [*rows, *bad]))
    assert "row 11, column 'tags': 1 words but 2 tags" in message
    assert "row 12, column 'tokens': expected a list of words" in message
    assert "row 13, column 'tokens': a word of the sentence: the text is empty" in message


def test_entities_are_scored_as_entities(tmp_path: Path) -> None:
    rows = [{"tokens": ["Ann", "ran"], "tags": ["B-PER", "O"]}] * 10
    assert load_task(str(write_jsonl(tmp_path / "mine.jsonl", rows))).task.metric == "entity_f1"


def test_answers_in_a_context(tmp_path: Path) -> None:
    context = "Ann ran home."
    good = [{"question": "Who?", "context": context, "answers": {"text": ["Ann"], "answer_start": [0]}}] * 12
    table = load_task(str(write_jsonl(tmp_path / "mine.jsonl", good)))
    assert table.task.kind == "span"
    bare = [{"question": "Who?", "context": context, "answer": "home"}] * 12
    table = load_task(str(write_jsonl(tmp_path / "mine.jsonl", bare)))
    assert table.splits["train"]["answer"].to_pylist()[0] == {"text": ["home"], "answer_start": [8]}
    wrong = {"question": "Who?", "context": context, "answers": {"text": ["Bob"], "answer_start": [0]}}
    message = refusal(write_jsonl(tmp_path / "mine.jsonl", [*good, wrong]))
    assert "row 13, column 'answers': the answer 'Bob' does not stand in the context at character 0" in message


def test_the_place_of_an_answer_that_is_no_number(tmp_path: Path) -> None:
    places = ["4", "\u00b2", "four", "9" * 30, "-4", ""]
    rows = [("q", "abc def", "def", place) for place in places]
    message = refusal(write_csv(tmp_path / "mine.csv", rows, "question,context,answer,answer_start"))
    assert "5 problems" in message
    assert all(f"row {row}, column 'answer'" in message for row in range(2, 7))


def test_an_answer_without_its_context_is_told_of_once(tmp_path: Path) -> None:
    rows = [{"question": "q", "context": "", "answer": "a"}, {"question": "q", "context": "b", "answer": "a"}]
    message = refusal(write_jsonl(tmp_path / "mine.jsonl", rows))
    assert "2 problems" in message
    assert "row 1, column 'context': the text is empty" in message
    assert "row 2, column 'answer': the answer 'a' does not stand in the context" in message


def test_words_and_tags_parted_at_spaces(tmp_path: Path) -> None:
    rows = [("a b", "X Y"), ("c d", "Y X")] * 5
    path = write_csv(tmp_path / "mine.csv", rows, "words,kinds")
    table = load_task(str(path), options=DataOptions(tokens="words", tags="kinds"))
    assert (table.task.kind, table.task.labels) == ("tags", ("X", "Y"))
    assert sorted(table.splits["validation"]["words"].to_pylist() + table.splits["train"]["words"].to_pylist()) == (
        [["a", "b"]] * 5 + [["c", "d"]] * 5
    )
    assert "kind of task: tags, one for each word" in table.notes
    path = write_csv(tmp_path / "mine.csv", [*rows, ("a b", "X")], "words,kinds")
    assert "row 11, column 'kinds': 2 words but 1 tags" in refusal(path, tokens="words", tags="kinds")


def test_columns_of_words_and_tags_are_known_by_their_names(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", [("a b", "X Y"), ("c d", "Y X")] * 5, "tokens,tags")
    assert load_task(str(path)).task.kind == "tags"


@pytest.mark.parametrize(
    ("words", "tags", "column"),
    [
        ("['EU', 'rejects']", "B O", "tokens"),
        ('["EU"]', "B", "tokens"),
        ("EU rejects", "[3, 0]", "tags"),
        ("EU rejects", "[3 0]", "tags"),
    ],
)
def test_lists_that_were_written_as_texts_are_no_words(tmp_path: Path, words: str, tags: str, column: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("tokens\ttags\n" + "a b\tB O\n[ c ]\tO B O\n" * 9 + f"{words}\t{tags}\n")
    assert f"row 19, column '{column}': expected a list of" in (message := refusal(path))
    assert "1 problem " in message
    assert "without brackets" in message


def test_one_column_cannot_be_two_things(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", ROWS)
    assert "`DataOptions(text=...)` and `DataOptions(label=...)` both name the column 'text'" in refusal(
        path, text="text", label="text"
    )
    assert "`DataOptions(text=...)` and `DataOptions(text_pair=...)` both name" in refusal(
        path, text="text", text_pair="text"
    )


@pytest.mark.parametrize("indent", [None, 1])
def test_one_json_list_is_told_of_once(tmp_path: Path, indent: int | None) -> None:
    rows = [{"text": f"t{index}", "label": index % 2} for index in range(20)]
    (tmp_path / "mine.json").write_text(json.dumps(rows, indent=indent))
    message = refusal(tmp_path / "mine.json")
    assert "is one JSON list. Save it as JSON lines" in message
    assert "row 2" not in message


def test_json_over_several_lines_is_told_of_once(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"data": [{"text": "t", "label": 1}]}, indent=1))
    message = refusal(tmp_path / "mine.json")
    assert "has JSON over several lines. Save it as JSON lines" in message
    assert "row 2" not in message


def test_a_smaller_train_part_is_part_of_a_larger(tmp_path: Path) -> None:
    path = str(write_csv(tmp_path / "mine.csv", ROWS))
    parts = {size: load_task(path, options=DataOptions(train_size=size)) for size in (5, 10)}
    texts = {size: set(part.splits["train"]["text"].to_pylist()) for size, part in parts.items()}
    assert len(texts[5]) == 5
    assert texts[5] < texts[10]
    assert parts[5].measured_on["train"] == "5 of 27"
    assert len(parts[5].splits["validation"]) == 3


def test_names_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="Did you mean 'rotten-tomatoes'"):
        load_task("rotten-tomatos")
    with pytest.raises(BitfitError, match="No task, file or folder"):
        load_task(str(tmp_path / "absent.csv"))
    (tmp_path / "mine.xls").write_bytes(b"x")
    with pytest.raises(DataError, match=r"does not read\. .*\.csv"):
        load_task(str(tmp_path / "mine.xls"))


@pytest.mark.parametrize("options", [{"max_length": 2}, {"train_size": 0}])
def test_options_that_cannot_be(options: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="Expected"):
        DataOptions(**options)
