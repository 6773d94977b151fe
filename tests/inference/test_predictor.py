"""Answers of every kind: each what its own numbers say, alone and among others; what cannot be answered is named."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import ViTImageProcessor

import bitfit
from bitfit.data.encode.encoder import ExampleEncoder
from bitfit.data.read.images import image_arrays
from bitfit.errors import BackboneError, DataError, DeltaError, RequestError
from bitfit.inference.predictor import Answer, Predictor, answer_table
from tests.models import tiny, tiny_backbone, tiny_tokenizer
from tests.training.trained import SETTINGS, TASKS, rows, sentence, trained

THREADS = 8
TEXTS = [sentence(number, 3 + number % 6) for number in range(9)]
PAIRS = [(sentence(number), sentence(number + 1, 7)) for number in range(9)]
ASKED = {"class": TEXTS, "pair": PAIRS, "labels": TEXTS, "number": TEXTS, "tags": TEXTS, "span": PAIRS}


@pytest.mark.parametrize("kind", TASKS)
def test_each_answer_is_that_of_the_text_alone(kind: str) -> None:
    backbone, delta = trained(kind)
    together = bitfit.predict(backbone, delta, ASKED[kind], "fp32")
    assert len(together) == 9
    for text, found in zip(ASKED[kind], together, strict=True):
        alone = bitfit.predict(backbone, delta, [text], "fp32")[0]
        if kind == "number":
            assert found.value == pytest.approx(alone.value, abs=1e-4)
        else:
            assert found.value == alone.value
        assert found.scores == (None if alone.scores is None else pytest.approx(alone.scores, abs=1e-4))


@pytest.mark.parametrize("kind", ["class", "pair"])
def test_a_label_comes_with_the_share_of_every_label(kind: str) -> None:
    backbone, delta = trained(kind)
    for answer in bitfit.predict(backbone, delta, ASKED[kind]):
        assert answer.scores is not None
        assert tuple(answer.scores) == delta.task.labels
        assert sum(answer.scores.values()) == pytest.approx(1)
        assert answer.scores[answer.value] == max(answer.scores.values())


def test_every_word_has_a_tag_and_those_cut_off_have_none() -> None:
    backbone, delta = trained("tags")
    short, long = bitfit.predict(backbone, delta, [("w5", "w6", "w7"), sentence(1, 9)])
    assert len(short.value) == 3
    assert set(short.value) <= {"A", "B"}
    assert long.value[6:] == [None, None, None]  # 8 pieces, of which two are marks
    assert None not in long.value[:6]
    split = bitfit.predict(backbone, delta, ["w5 w6  w7"])[0]
    assert split.value == short.value


def test_a_span_is_a_part_of_its_context_with_the_next_best() -> None:
    backbone, delta = trained("span")
    pairs = [(question, f"{sentence(i, 30)}") for i, (question, _) in enumerate(PAIRS)]  # several windows
    for (_, context), answer in zip(pairs, bitfit.predict(backbone, delta, pairs), strict=True):
        assert answer.value == answer.best[0].text
        assert len(answer.best) == 20
        assert all(context[span.start : span.end] == span.text for span in answer.best)
        shares = [span.probability for span in answer.best]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("kind", TASKS)
def test_answers_as_columns(kind: str) -> None:
    backbone, delta = trained(kind)
    answers = bitfit.predict(backbone, delta, ASKED[kind])
    table = answer_table(delta.task, answers, "found")
    assert table["found"].to_pylist() == [answer.value for answer in answers]
    assert table.schema == answer_table(delta.task, [], "found").schema
    if kind == "span":
        assert table["found_start"].to_pylist() == [answer.best[0].start for answer in answers]
    if kind in ("class", "pair", "span"):
        assert all(0 < share <= 1 for share in table["found_score"].to_pylist())


def test_answers_agree_with_the_numbers_of_the_same_rows() -> None:
    backbone, delta = trained("class")
    predictor = Predictor(backbone, delta, "fp32")
    table = pa.table(rows("class", 12)).select(["text"])
    logits = predictor.outputs(ExampleEncoder(delta.task, backbone.reader).examples(table))
    wanted = [delta.task.labels[index] for index in logits.argmax(1)]
    assert [answer.value for answer in predictor.answers(table)] == wanted
    assert predictor.answers(table.slice(0, 0)) == []


@pytest.mark.parametrize(
    ("kind", "texts", "words"),
    [
        ("class", ["w5", " ", ""], "2 problems.*\n.*row 2, column 'text': the text is empty\n.*row 3"),
        ("class", [("w5", "w6")], r"takes 1 text\(s\) \('text',\); text 1 has 2"),
        ("pair", [("w5", "w6"), "w7"], r"takes 2 text\(s\) \('left', 'right'\); text 2 has 1"),
        ("tags", [["w5", ""], []], "row 1, column 'tokens': a word of the sentence: the text is empty\n.*row 2"),
    ],
)
def test_what_cannot_be_answered_is_named(kind: str, texts: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        bitfit.predict(*trained(kind), texts)


def test_another_backbone_is_refused() -> None:
    _, delta = trained()
    with pytest.raises(DeltaError, match="tiny-roberta"):
        bitfit.predict(tiny_backbone("roberta"), delta, ["w5"])


def test_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    backbone = replace(tiny_backbone("vit"), processor=processor)
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 100, (60, 12, 12, 3)).astype(np.uint8)
    pictures[30:] += 150
    table = image_arrays("shades", {"train": (pictures, ["dark"] * 30 + ["light"] * 30)})
    delta = bitfit.train(backbone, table, "bitfit", replace(SETTINGS, epochs=4)).delta
    paths = []
    for name, colour in (("night", (20, 20, 20)), ("day", (250, 250, 250))):
        image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
        paths.append(str(tmp_path / f"{name}.png"))
    assert [answer.value for answer in bitfit.predict(backbone, delta, paths)] == ["dark", "light"]
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"(?s)2 problems.*not a readable image.*no image can be read from"):
        bitfit.predict(backbone, delta, [str(tmp_path / "broken.png"), str(tmp_path / "absent.png")])
    with pytest.raises(DataError, match="'shades' has images, and the model reads texts"):
        bitfit.train(tiny_backbone("bert"), table)
    with pytest.raises(BackboneError, match="'tiny-vit' has no image processor"):
        bitfit.train(tiny_backbone("vit"), table)


def test_one_text_has_one_answer_and_many_have_a_list() -> None:
    backbone, delta = trained("class")
    predictor = Predictor(backbone, delta, "fp32")
    one = predictor(TEXTS[0])
    assert isinstance(one, Answer)
    assert one == bitfit.predict(backbone, delta, TEXTS[0], "fp32") == predictor([TEXTS[0]])[0]
    assert predictor([]) == []
    many = predictor(TEXTS[:3])
    columns: dict[str, Any] = {"text": TEXTS[:3], "more": [1, 2, 3]}
    for same in (tuple(TEXTS[:3]), np.array(TEXTS[:3]), iter(TEXTS[:3]), columns, pa.table(columns)):
        assert predictor(same) == many
    assert [answer.value for answer in many] == [predictor(text).value for text in TEXTS[:3]]


def test_one_pair_is_a_tuple() -> None:
    backbone, delta = trained("pair")
    predictor = Predictor(backbone, delta, "fp32")
    assert predictor(PAIRS[0]) == predictor([PAIRS[0]])[0]
    assert predictor([list(pair) for pair in PAIRS[:2]]) == predictor(PAIRS[:2])
    assert predictor([{"left": left, "right": right} for left, right in PAIRS[:2]]) == predictor(PAIRS[:2])
    with pytest.raises(DataError, match=r"text 1 has 1\. Give each as a pair: \(left, right\)"):
        predictor("w5")
    with pytest.raises(DataError, match=r"text 1 has 1\. Give each as a pair"):
        predictor(list(PAIRS[0]))


def test_one_sentence_is_a_string_and_a_list_of_strings_is_many() -> None:
    predictor = Predictor(*trained("tags"))
    assert predictor("w5 w6 w7") == predictor([["w5", "w6", "w7"]])[0]
    assert len(predictor(["w5 w6", "w7"])) == 2
    assert len(predictor(("w5 w6", "w7"))) == 2


def test_a_table_without_the_tasks_columns_is_refused() -> None:
    with pytest.raises(DataError, match=r"reads the columns \('text',\). Did you mean 'texts'"):
        bitfit.predict(*trained("class"), [{"texts": "w5"}])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda backbone, delta: (delta, ["w5"], None), "Expected a backbone first, as bitfit.load gives it.*a Delta"),
        (lambda backbone, delta: (backbone, ["w5"], delta), "Expected a Delta after the backbone"),
        (lambda backbone, delta: (backbone, delta, 7), "Expected a text, or a list of texts; found 7"),
    ],
)
def test_arguments_in_another_order_are_refused_with_the_right_one(arguments: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        bitfit.predict(*arguments(*trained("class")))


def test_a_models_folder_stands_for_its_backbone(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    backbone, delta = trained("class")
    assert bitfit.predict(tmp_path, delta, "w5", "fp32") == bitfit.predict(backbone, delta, "w5", "fp32")


class TestThreads:
    """Eight threads that start together, each with texts of other lengths, one at a time and many."""

    @pytest.fixture(autouse=True)
    def often(self) -> Iterator[None]:
        """Threads take turns every few microseconds, so that what they share without care shows."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(before)

    def at_once(self, work: Callable[[int], Any]) -> list[Any]:
        barrier = threading.Barrier(THREADS)

        def started_together(number: int) -> Any:
            barrier.wait()
            return work(number)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(started_together, range(THREADS)))

    @pytest.mark.parametrize("kind", TASKS)
    def test_a_predictor_answers_in_many_threads_as_in_one(self, kind: str) -> None:
        backbone, delta = trained(kind)
        asked = [texts_of(kind, number) for number in range(THREADS)]

        def work(predictor: Predictor, number: int) -> list[list[Answer]]:
            return [predictor(part) for text in asked[number] for part in ([text], asked[number])]

        alone = Predictor(backbone, delta, "fp32")
        wanted = [work(alone, number) for number in range(THREADS)]
        shared = Predictor(backbone, delta, "fp32")  # a new one: what it makes on first use is made by many at once
        assert self.at_once(partial(work, shared)) == wanted

    def test_a_backbone_serves_predictors_in_many_threads(self) -> None:
        pairs = [trained(kind, tiny_backbone("bert")) for kind in ("class", "tags")]
        backbone, deltas = pairs[0][0], [delta for _, delta in pairs]

        def work(number: int) -> list[Answer]:
            delta = deltas[number % 2]
            found: list[Answer] = bitfit.predict(backbone, delta, texts_of("class", number), "fp32")
            return found

        assert self.at_once(work) == [work(number) for number in range(THREADS)]


def texts_of(kind: str, number: int) -> list[Any]:
    """Short texts or pairs of many lengths, others for each number."""
    texts = [sentence(number * 12 + place, 1 + (number + place) % 17) for place in range(12)]
    return [(text, sentence(number, 9)) for text in texts] if kind in ("pair", "span") else texts
