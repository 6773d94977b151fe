"""Tokenized examples are what the tokenizer itself gives, counted where cut, and come back from the cache."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bitfit.data.encode.encoder import ExampleEncoder, tokenize
from bitfit.data.encode.texts import TextEncoder
from bitfit.data.examples import Examples
from bitfit.data.table import TaskTable, content_key
from bitfit.data.task import Task
from bitfit.errors import DataError

ONE = Task("one", "class", ("text",), "label", ("bad", "good"), max_length=8)
TWO = Task("two", "number", ("a", "b"), "label", max_length=10)
TEXTS = ["good film", "the film was very very bad , not good , not fine .", "dull"]


def table(task: Task = ONE, texts: list[str] = TEXTS) -> TaskTable:
    rows = pa.table({"text": texts, "label": pa.array(range(len(texts)), pa.int64())})
    return TaskTable(task, {"train": rows})


def row(examples: Examples, index: int) -> list[int]:
    return examples.ids[examples.offsets[index] : examples.offsets[index + 1]].tolist()


def test_single_texts_match_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    data = tokenize(table(), tokenizer, cache=None)
    wanted = tokenizer(TEXTS, truncation=True, max_length=8)["input_ids"]
    assert [row(data.splits["train"], index) for index in range(3)] == wanted
    assert data.splits["train"].truncated == 1
    assert "train: 1 of 3 texts longer than 8 tokens" in data.notes


def test_pairs_lose_from_the_longer_text_first(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = pa.table({"a": ["good film", "bad"], "b": ["the film was very very very bad", "dull"]})
    examples = ExampleEncoder(TWO, tokenizer).examples(rows)
    wanted = tokenizer(*(rows[name].to_pylist() for name in "ab"), truncation="longest_first", max_length=10)
    assert [row(examples, index) for index in range(2)] == wanted["input_ids"]
    assert examples.types.tolist() == [kind for kinds in wanted["token_type_ids"] for kind in kinds]
    assert np.isnan(examples.labels).all()
    assert examples.truncated == 1


@pytest.mark.parametrize("length", [8, 9, 30])
def test_cutting_long_texts_first_changes_no_piece(tokenizer: PreTrainedTokenizerFast, length: int) -> None:
    texts = ["film " * 40, "x" * 300, "a" + " " * 400 + "b c d e f g h i j", "very " * 11 + "unutterably" * 9]
    pieces = TextEncoder(tokenizer, length).encode(texts)
    wanted = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    assert np.split(pieces.ids, pieces.offsets[1:-1])[0].tolist() == wanted[0]
    assert [part.tolist() for part in np.split(pieces.ids, pieces.offsets[1:-1])] == wanted
    whole = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    assert pieces.truncated == sum(len(ids) > length for ids in whole)


def test_a_pair_without_separator_of_its_own_gets_one() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<end>": 2}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bare = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    assert TextEncoder(bare, 8).encode(["a"], ["b"]).ids.tolist() == [0, 2, 1]
    assert TextEncoder(bare, 8).encode(["a b"]).ids.tolist() == [0, 1]
    with pytest.raises(DataError, match="row 2"):
        TextEncoder(bare, 8).encode(["a", " "])


def test_the_tokenizer_itself_is_left_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    before = tokenizer.backend_tokenizer.to_str()
    tokenize(table(), tokenizer, cache=None)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_second_start_reads_memory_maps(tokenizer: PreTrainedTokenizerFast, own_cache: Path) -> None:
    first, second = (tokenize(table(), tokenizer).splits["train"] for _ in range(2))
    assert isinstance(second.ids, np.memmap)
    assert second.ids.tolist() == first.ids.tolist()
    assert second.truncated == first.truncated
    assert len(list((own_cache / "tokens").iterdir())) == 1


def test_other_texts_labels_lengths_or_tokenizers_are_other_entries(
    tokenizer: PreTrainedTokenizerFast, own_cache: Path
) -> None:
    tokenize(table(), tokenizer)
    tokenize(table(texts=["good film", "bad", "dull"]), tokenizer)
    tokenize(table(Task("one", "class", ("text",), "label", ("bad", "good"), max_length=9)), tokenizer)
    tokenize(table(Task("renamed", "class", ("text",), "label", ("no", "yes"), max_length=8)), tokenizer)
    assert len(list((own_cache / "tokens").iterdir())) == 3  # a task's name decides nothing


@pytest.mark.parametrize("damage", ["ids.npy", "entry.json"])
def test_a_damaged_entry_is_made_again(tokenizer: PreTrainedTokenizerFast, own_cache: Path, damage: str) -> None:
    whole = tokenize(table(), tokenizer, cache=None).splits["train"].ids.tolist()
    tokenize(table(), tokenizer)
    (entry,) = (own_cache / "tokens").iterdir()
    (entry / damage).write_bytes((entry / damage).read_bytes()[:20])
    assert tokenize(table(), tokenizer).splits["train"].ids.tolist() == whole
    assert isinstance(tokenize(table(), tokenizer).splits["train"].ids, np.memmap)


def test_a_folder_that_cannot_be_written_is_no_error(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    data = tokenize(table(), tokenizer, cache=tmp_path / "file")
    assert len(data.splits["train"]) == 3


def test_a_slice_has_the_key_of_its_own_rows() -> None:
    rows = table().splits["train"]
    assert content_key(rows.slice(1)) == content_key(rows.take([1, 2]))
    assert content_key(rows.slice(1)) != content_key(rows.slice(0, 2))
    assert content_key(rows) == content_key(pa.concat_tables([rows.slice(0, 1), rows.slice(1)]))


def test_the_first_piece_of_a_word_carries_its_tag(tokenizer: PreTrainedTokenizerFast) -> None:
    task = Task("tags", "tags", ("tokens",), "tags", ("X", "Y"), max_length=8)
    rows = pa.table({"tokens": [["film", "xyz", "good"], ["bad"], ["a"] * 9], "tags": [[0, 1, 0], [1], [1] * 9]})
    data = tokenize(TaskTable(task, {"train": rows}), tokenizer, cache=None)
    examples = data.splits["train"]
    wanted = [-100, 0, 1, -100, -100, 0, -100, -100, 1, -100, -100, *[1] * 6, -100]
    assert examples.labels.tolist() == wanted
    assert examples.source["word"].tolist() == [
        *[-1, 0, 1, -1, -1, 2, -1],
        *[-1, 0, -1],
        *[-1, 0, 1, 2, 3, 4, 5, -1],
    ]
    assert "train: 3 words were cut off or made no piece: not scored" in data.notes
