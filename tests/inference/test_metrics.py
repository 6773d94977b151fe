"""Scores agree with hand-made figures and with second implementations."""

import re
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfit.data.examples import Examples
from bitfit.data.task import Metric, Task
from bitfit.errors import DataError, RequestError
from bitfit.inference.metrics import exact_match, normalized, score, token_f1


def examples(labels: np.ndarray, lengths: list[int] | None = None) -> Examples:
    offsets = np.concatenate([[0], np.cumsum(lengths or [1] * len(labels))]).astype(np.int64)
    return Examples(np.zeros(offsets[-1], np.int32), np.zeros(offsets[-1], np.uint8), offsets, labels)


def logits(predicted: list[int], labels: int = 2) -> np.ndarray:
    return np.eye(labels, dtype=np.float32)[predicted]


def task(*metrics: Metric, kind: str = "class", labels: tuple[str, ...] = ("no", "yes")) -> Task:
    return Task("t", kind, ("text",), "label", labels, metrics)


def test_classes_by_hand() -> None:
    gold, found = np.array([1, 1, 1, 0, 0, 1]), [1, 1, 0, 0, 1, 1]
    scores = score(task("f1", "accuracy", "matthews_correlation", "macro_f1"), examples(gold), logits(found))
    assert list(scores) == ["f1", "accuracy", "matthews_correlation", "macro_f1"]
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["f1"] == pytest.approx(3 / 4)
    assert scores["macro_f1"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert scores["matthews_correlation"] == pytest.approx((3 * 1 - 1 * 1) / np.sqrt(4 * 4 * 2 * 2))


def test_rows_without_label_do_not_count_and_none_at_all_is_refused() -> None:
    assert score(task(), examples(np.array([1, -1])), logits([1, 0])) == {"accuracy": 1.0}
    with pytest.raises(DataError, match="none of the 2 rows"):
        score(task(), examples(np.array([-1, -1])), logits([1, 0]))


def test_numbers_by_hand() -> None:
    gold = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    numbers = task("spearman", "pearson", "mean_squared_error", kind="number", labels=())
    scores = score(numbers, examples(gold), np.array([0, 1, 4, 9], np.float32))
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] == pytest.approx(0.9583, abs=1e-4)
    assert scores["mean_squared_error"] == pytest.approx((4 + 36) / 4)
    constant = score(numbers, examples(gold), np.ones(4, np.float32))
    assert constant["spearman"] == constant["pearson"] == 0.0


def test_tags_count_words_only() -> None:
    gold = np.array([-100, 0, -100, 1, -100])
    found = np.array([1, 0, 1, 0, 1])
    assert score(task(kind="tags"), examples(gold, [3, 2]), found) == {"accuracy": 0.5}


def test_entities_are_whole_or_wrong() -> None:
    names = ("O", "B-PER", "I-PER", "B-LOC")
    gold = np.array([-100, 1, 2, -100, 0, -100, 3, 1, -100])
    found = np.array([0, 1, 0, 0, 0, 0, 3, 1, 0])  # the first person is cut short
    scores = score(task("entity_f1", "accuracy", kind="tags", labels=names), examples(gold, [5, 4]), found)
    assert scores["entity_f1"] == pytest.approx(2 / 3)
    assert scores["accuracy"] == pytest.approx(4 / 5)


def test_an_entity_does_not_reach_into_the_next_sentence() -> None:
    names = ("O", "B-PER", "I-PER")
    gold = np.array([1, 1])
    found = np.array([1, 2])  # a new sentence starts a new entity, whatever its tag
    assert score(task("entity_f1", kind="tags", labels=names), examples(gold, [1, 1]), found)["entity_f1"] == 1.0


def test_a_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(RequestError, match="'exact_match' does not fit 't'"):
        score(task("exact_match"), examples(np.array([1])), logits([1]))


@pytest.mark.parametrize(
    ("answer", "gold", "match", "f1"),
    [
        ("The Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("Denver", ["Denver Broncos", "The Broncos"], 0, 2 / 3),
        ("in the year 1990", ["1990"], 0, 2 * (1 / 3) / (1 / 3 + 1)),
        ("x x y", ["x y y"], 0, 2 / 3),
        ("An apple-pie", ["applepie"], 1, 1),
        ("theatre", ["the atre"], 0, 0),
        ("the", ["a"], 1, 0),  # nothing is left of either: the official F1 is then 0
        ("", ["word"], 0, 0),
    ],
)
def test_answers_with_known_scores(answer: str, gold: list[str], match: float, f1: float) -> None:
    assert exact_match(answer, gold) == match
    assert token_f1(answer, gold) == pytest.approx(f1)


def second_f1(answer: str, gold: list[str]) -> tuple[float, float]:
    """The definition again in other words: precision and recall over bags of words."""

    def words(text: str) -> list[str]:
        text = "".join(" " if False else c for c in text.lower() if c not in string.punctuation)
        return re.sub(r"(?<!\w)(?:the|an|a)(?!\w)", " ", text).split()

    best_f1 = best_match = 0.0
    for one in gold:
        left, pool, shared = words(answer), words(one), 0
        best_match = max(best_match, float(" ".join(left) == " ".join(pool)))
        total = len(pool)
        for word in left:
            if word in pool:
                pool.remove(word)
                shared += 1
        if shared:
            precision, recall = shared / len(left), shared / total
            best_f1 = max(best_f1, 2 * precision * recall / (precision + recall))
    return best_match, best_f1


ANSWERS = st.text(st.sampled_from("aAthe nx.-'é  "), max_size=25)


@settings(max_examples=300, deadline=None)
@given(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=3))
def test_answers_agree_with_a_second_implementation(answer: str, gold: list[str]) -> None:
    assert (exact_match(answer, gold), token_f1(answer, gold)) == pytest.approx(second_f1(answer, gold))


def squad_scores(rows: pa.Table, spans: list[tuple[int, int]]) -> dict[str, float]:
    """Score answers given as characters: one piece of text before, in and after each."""
    lengths = [len(context) for context in rows["context"].to_pylist()]
    starts, ends, outputs = [], [], []
    for (first, last), length in zip(spans, lengths, strict=True):
        starts += [-1, 0, first, last]
        ends += [-1, first, last, length]
        outputs += [[9.0, 9.0], [0.0, 0.0], [5.0, 5.0], [0.0, 0.0]]
    whole = examples(np.zeros((len(spans), 2), np.int64), [4] * len(spans))
    source = {"row": np.arange(len(spans)), "start": np.array(starts), "end": np.array(ends)}
    named = {**source, "rows": rows, "context": "context", "answers": "answers"}
    data = Examples(whole.ids, whole.types, whole.offsets, whole.labels, source=named)
    squad = Task("squad", "span", ("question", "context"), "answers", (), ("exact_match", "f1"))
    return score(squad, data, np.array(outputs, np.float32))


@pytest.mark.real
def test_all_official_validation_questions() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "squad" / "plain_text"
    if not folder.is_dir():
        pytest.skip("the real SQuAD is not on this machine")
    rows = pq.read_table(folder / "validation-00000-of-00001.parquet")
    assert rows.num_rows == 10_570
    answers = rows["answers"].to_pylist()
    contexts = rows["context"].to_pylist()
    # the first gold answer: three later ones are a lone "." of which nothing is left to overlap
    gold = [(one["answer_start"][0], one["answer_start"][0] + len(one["text"][0])) for one in answers]
    assert squad_scores(rows, gold) == {"exact_match": 1.0, "f1": 1.0}
    shifts = np.random.default_rng(0).integers(-9, 9, (len(gold), 2)).tolist()
    moved = [
        (max(0, min(first + left, end - 1)), min(len(context), max(end + right, first + left + 1, 1)))
        for (first, end), (left, right), context in zip(gold, shifts, contexts, strict=True)
    ]
    wanted = [second_f1(text[a:b], one["text"]) for text, (a, b), one in zip(contexts, moved, answers, strict=True)]
    for text, (a, b), one, pair in zip(contexts, moved, answers, wanted, strict=True):
        assert (exact_match(text[a:b], one["text"]), token_f1(text[a:b], one["text"])) == pytest.approx(pair)
    found = squad_scores(rows, moved)
    assert (found["exact_match"], found["f1"]) == pytest.approx(tuple(np.mean(wanted, axis=0)))
    assert 0.01 < found["exact_match"] < found["f1"] < 0.9


def test_normalization_keeps_letters_of_other_scripts() -> None:
    assert normalized("  The  Élan — vital, ") == "élan — vital"
