"""`bitfit tokens`: one JSON document, or a table with a line on each column."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from bitfit.cli.tokens import command, inspect_tokens
from bitfit.errors import BackboneError, RequestError
from tests.models import wordpiece_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> str:
    BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path)
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "a", "b", "c"]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    ).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return wordpiece_tokenizer()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_json_holds_every_column(folder: str) -> None:
    found = json.loads(run(folder, "a b", "c", "--json"))
    assert found["pieces"] == ["[CLS]", "a", "b", "[SEP]", "c", "[SEP]"]
    assert found["input_ids"] == [1, 4, 5, 2, 6, 2]
    assert len(found["token_type_ids"]) == len(found["attention_mask"]) == 6
    assert found["cut"] == [[], []]
    assert set(found["meanings"]) == {"piece", "input_id", "token_type_id", "attention_mask"}


def test_the_table_says_what_each_column_is_for_and_what_was_cut(folder: str) -> None:
    shown = run(folder, "a b c " * 4, "--max-length", "8")
    assert "input_id: the piece's number in the vocabulary" in shown
    assert "Cut off (6 pieces beyond 8): a b c a b c" in shown
    assert "Nothing was cut off: 3 pieces of 128 allowed." in run(folder, "a")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="no tokenizer"):
        run(str(tmp_path), "a")


def test_a_pair_shows_marks_types_and_nothing_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    found = inspect_tokens(tokenizer, ["good film", "dull xy"], 16)
    assert [piece.piece for piece in found.pieces] == [
        *["[CLS]", "good", "film", "[SEP]"],
        *["dull", "x", "##y", "[SEP]"],
    ]
    assert [piece.token_type_id for piece in found.pieces] == [0] * 4 + [1] * 4
    assert {piece.attention_mask for piece in found.pieces} == {1}
    assert found.cut == ((), ())


def test_what_was_cut_is_shown_text_by_text(tokenizer: PreTrainedTokenizerFast) -> None:
    (cut,) = inspect_tokens(tokenizer, ["good " * 9 + "dull"], 8).cut
    assert cut == ("good", "good", "good", "dull")
    first, second = inspect_tokens(tokenizer, ["a b c d e f g h", "a b"], 8).cut
    assert (first, second) == (("d", "e", "f", "g", "h"), ())


def test_an_empty_text_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(RequestError, match="Text 2 is empty"):
        inspect_tokens(tokenizer, ["a", " "], 8)
