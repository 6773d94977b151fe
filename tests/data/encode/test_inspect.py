"""The input of a model is shown as it is made, with what was cut."""

import pytest
from transformers import PreTrainedTokenizerFast

from bitfit.data.encode.inspect import inspect_tokens
from bitfit.errors import RequestError


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
