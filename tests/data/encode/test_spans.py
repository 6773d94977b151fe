"""Windows cover every context, gold pieces give back the gold text, and answers are as they stand there."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from transformers import PreTrainedTokenizerFast

from bitfit.data.encode.encoder import ExampleEncoder
from bitfit.data.encode.spans import best_spans
from bitfit.data.task import Task
from bitfit.errors import RequestError

SQUAD = Task("squad", "span", ("question", "context"), "answers", max_length=16, stride=3)
CONTEXT = "a good film , b fine film , c dull film , d bad film . e not very good , f who won"
GOLD = [("fine film", 16), ("who won", 75), ("c dull film", 28)]


def rows() -> pa.Table:
    assert all(CONTEXT[start : start + len(text)] == text for text, start in GOLD)
    return pa.table(
        {
            "question": ["who ?"] * len(GOLD),
            "context": [CONTEXT] * len(GOLD),
            "answers": [{"text": [text], "answer_start": [start]} for text, start in GOLD],
            "id": [str(index) for index in range(len(GOLD))],
        }
    )


def test_windows_overlap_by_the_stride_and_cover_the_context(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = ExampleEncoder(SQUAD, tokenizer).examples(rows().slice(0, 1))
    assert examples.lengths.max() <= 16
    starts = [
        [start for start in part if start >= 0] for part in np.split(examples.source["start"], examples.offsets[1:-1])
    ]
    assert len(starts) > 2
    for before, after in pairwise(starts):
        assert before[-3:] == after[:3]
    pieces = tokenizer(CONTEXT, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert sorted({start for part in starts for start in part}) == [start for start, _ in pieces]


def test_gold_pieces_give_back_the_gold_text(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = ExampleEncoder(SQUAD, tokenizer).examples(rows())
    outputs = np.zeros((len(examples.ids), 2), np.float32)
    held = examples.labels.any(axis=1)
    assert set(examples.source["row"][held]) == {0, 1, 2}
    begins = examples.offsets[:-1][held, None] + examples.labels[held]
    outputs[begins[:, 0], 0] = outputs[begins[:, 1], 1] = 10.0
    best = [kept[0] for kept in best_spans(examples, outputs)]
    assert [(one.text, one.start) for one in best] == GOLD


def test_n_best_is_sorted_without_repeats_and_sums_to_one(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = ExampleEncoder(SQUAD, tokenizer).examples(rows())
    outputs = np.random.default_rng(1).normal(size=(len(examples.ids), 2)).astype(np.float32)
    for kept in best_spans(examples, outputs, n_best=7):
        assert len({(one.start, one.end) for one in kept}) == len(kept) == 7
        assert [one.score for one in kept] == sorted((one.score for one in kept), reverse=True)
        assert sum(one.probability for one in kept) == pytest.approx(1.0)
        assert all(CONTEXT[one.start : one.end] == one.text and one.text for one in kept)


def test_an_answer_that_is_not_at_its_place_is_none_to_learn(tokenizer: PreTrainedTokenizerFast) -> None:
    wrong = pa.table({**{name: rows().slice(0, 1)[name] for name in ("question", "context", "id")}})
    wrong = wrong.append_column("answers", pa.array([{"text": ["fine film"], "answer_start": [3]}]))
    examples = ExampleEncoder(SQUAD, tokenizer).examples(wrong)
    assert not examples.labels.any()
    assert examples.source["misplaced"] == 1


def test_long_questions_are_cut_and_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    long = rows().slice(0, 1).set_column(0, "question", pa.array(["who won " * 30]))
    examples = ExampleEncoder(SQUAD, tokenizer).examples(long)
    assert examples.truncated == 1
    assert examples.lengths.max() <= 16


def test_a_stride_that_leaves_no_room_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(RequestError, match=r"larger `DataOptions\(max_length=\.\.\.\)`"):
        ExampleEncoder(Task("s", "span", ("question", "context"), "answers", max_length=64, stride=128), tokenizer)
