"""Confidences: fitted on validation, kept in the delta, given by `predict`; and a report of how far off they are."""

from dataclasses import replace

import numpy as np
import pytest

import bitfit
from bitfit.backbone.load import Backbone
from bitfit.errors import DeltaError, RequestError
from bitfit.inference.calibration import calibration_of, fitted_temperature, probabilities, threshold_of
from tests.training.trained import TASKS, rows, trained

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not


def sure(rows: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `scale` times too large for the labels that are drawn of them."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(rows, 3))
    shares = probabilities(logits)
    return scale * logits, np.array([rng.choice(3, p=share) for share in shares])


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_is_found_again_and_calibrates_other_rows(scale: float) -> None:
    temperature = fitted_temperature(*sure(4000, scale))
    assert temperature == pytest.approx(scale, rel=0.1)
    found = calibration_of(*sure(4000, scale, seed=1), temperature)
    assert found.error_after is not None
    assert found.error_after < 0.03
    assert scale == 1.0 or found.error_after < found.error_before / 2


def test_a_calibrated_model_has_the_error_of_chance() -> None:
    found = [calibration_of(*sure(600, 1.0, seed), None) for seed in range(40)]
    chance = np.mean([one.error_by_chance for one in found])
    assert np.mean([one.error_before for one in found]) == pytest.approx(chance, rel=0.1)
    assert calibration_of(*sure(600, 3.0), None).error_before > 2 * chance


def test_few_rows_that_are_all_right_do_not_make_certain() -> None:
    assert 0.3 < fitted_temperature(np.array([[2.0, 0], [0, 1]]), np.array([0, 1])) < 1


def test_the_expected_error_by_hand_in_bins_of_equal_width() -> None:
    logits = np.log(np.array([[0.91, 0.09]] * 10 + [[0.92, 0.08]] * 2 + [[0.55, 0.45]] * 5))
    labels = np.array([0] * 8 + [1] * 2 + [0, 0] + [0] * 2 + [1] * 3)
    found = calibration_of(logits, labels, None)
    assert [one.rows for one in found.bins] == [5, 12]  # from 0.533 and from 0.867 on
    assert (found.temperature, found.error_after) == (None, None)
    sure = (10 * 0.91 + 2 * 0.92) / 12
    assert found.error_before == pytest.approx((5 * abs(0.55 - 2 / 5) + 12 * abs(sure - 10 / 12)) / 17)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    found = calibration_of(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 1]), None)
    assert [(one.rows, one.confidence, one.accuracy) for one in found.bins] == [(2, 1.0, 1.0)]


def test_training_keeps_a_temperature_and_predict_uses_it() -> None:
    backbone, delta = trained()
    assert delta.temperature is not None
    again = bitfit.Delta.from_bytes(delta.to_bytes())
    assert again.temperature == delta.temperature
    hot = replace(delta, settings={**delta.settings, "calibration": {"temperature": 100.0}})
    plain = replace(delta, settings={k: v for k, v in delta.settings.items() if k != "calibration"})
    texts = [str(text) for text in rows("class", 4)["text"]]
    answers = {one: bitfit.predict(backbone, each, texts, "fp32") for one, each in (("hot", hot), ("plain", plain))}
    for one, other in zip(answers["hot"], answers["plain"], strict=True):
        assert one.value == other.value
        assert one.scores == pytest.approx(dict.fromkeys(TASKS["class"].labels, 1 / 3), abs=0.05)
        assert sum(other.scores.values()) == pytest.approx(1)


def test_numbers_have_no_temperature() -> None:
    assert trained("number")[1].temperature is None


def test_an_evaluation_says_how_far_off_confidences_are(backbone: Backbone) -> None:
    delta = trained(backbone=backbone)[1]
    texts = [str(text) for text in rows("class", 12)["text"]]
    labels = [TASKS["class"].labels[i % 3] for i in range(12)]
    found = bitfit.evaluation(backbone, delta, (texts, labels), precision="fp32")
    assert found.calibration is not None
    assert found.calibration.temperature == delta.temperature
    assert found.calibration.error_after is not None
    assert found.rows is not None
    assert found.rows.column_names == ["text", "label", "answer", "confidence"]
    answers = bitfit.predict(backbone, delta, texts, "fp32")
    assert found.rows["text"].to_pylist() == texts
    assert found.rows["label"].to_pylist() == labels
    assert found.rows["answer"].to_pylist() == [answer.value for answer in answers]
    shares = [answer.scores[answer.value] for answer in answers]
    assert found.rows["confidence"].to_pylist() == pytest.approx(shares, abs=1e-5)


def test_the_hardest_rows_are_confident_errors_then_uncertain_answers(backbone: Backbone) -> None:
    delta = trained(backbone=backbone)[1]
    texts = [str(text) for text in rows("class", 30)["text"]]
    found = bitfit.evaluation(backbone, delta, (texts, [TASKS["class"].labels[i % 3] for i in range(30)]))
    hardest = found.hardest().to_pylist()
    wrong = [row["confidence"] for row in hardest if row["why"] == "wrong"]
    right = [row["confidence"] for row in hardest if row["why"] == "uncertain"]
    assert [row["why"] for row in hardest] == ["wrong"] * len(wrong) + ["uncertain"] * len(right)
    assert wrong
    assert right
    assert wrong == sorted(wrong, reverse=True)
    assert right == sorted(right)
    assert all((row["label"] != row["answer"]) == (row["why"] == "wrong") for row in hardest)


def test_numbers_are_hardest_where_the_error_is_largest(backbone: Backbone) -> None:
    delta = trained("number", backbone)[1]
    texts = [str(text) for text in rows("number", 9)["text"]]
    found = bitfit.evaluation(backbone, delta, (texts, [i / 9 for i in range(9)])).hardest()
    errors = found["error"].to_pylist()
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("calibration", [3, {"temperature": 0}, {"temperature": "1"}, {"temperature": float("nan")}])
def test_a_calibration_that_is_none_is_refused(calibration: object) -> None:
    delta = trained()[1]
    with pytest.raises(DeltaError, match="A calibration has a temperature above 0; found"):
        replace(delta, settings={**delta.settings, "calibration": calibration})


def test_the_threshold_is_the_least_confidence_that_is_precise_enough() -> None:
    confidence = np.array([0.99, 0.9, 0.8, 0.8, 0.6, 0.5])
    right = np.array([True, True, True, False, True, False])
    found = threshold_of(confidence, right, 0.8)
    assert (found.confidence, found.coverage, found.reached) == (0.6, 5 / 6, 4 / 5)
    assert threshold_of(confidence, right, 1.0).confidence == 0.9  # of two at 0.8 one is wrong
    assert threshold_of(confidence, right, 0.5).confidence == 0.0  # all together are precise enough
    assert threshold_of(np.float32([0.89817, 0.5]), np.array([True, False]), 1.0).confidence == 0.8981
    none = threshold_of(confidence, ~right, 0.9)
    assert (none.confidence, none.coverage, none.reached) == (None, 0.0, None)


def test_the_threshold_of_some_rows_holds_on_others() -> None:
    logits, labels = sure(4000, 1.0)
    confidence = probabilities(logits).max(axis=1)
    found = threshold_of(confidence, logits.argmax(axis=1) == labels, 0.9)
    assert found.confidence is not None
    logits, labels = sure(4000, 1.0, seed=1)
    above = probabilities(logits).max(axis=1) >= found.confidence
    assert (logits.argmax(axis=1) == labels)[above].mean() > 0.87
    assert above.mean() == pytest.approx(found.coverage, abs=0.05)


def test_predict_is_unsure_below_the_threshold_that_the_delta_keeps() -> None:
    backbone, delta = trained()
    texts = [str(text) for text in rows("class", 8)["text"]]
    sure_of = sorted(answer.scores[answer.value] for answer in bitfit.predict(backbone, delta, texts, "fp32"))
    middle = (sure_of[3] + sure_of[4]) / 2
    kept = bitfit.Delta.from_bytes(delta.with_threshold(middle, 0.95).to_bytes())
    assert (kept.threshold, kept.temperature, delta.threshold) == (middle, delta.temperature, None)
    answers = bitfit.predict(backbone, kept, texts, "fp32")
    assert sum(answer.unsure for answer in answers) == 4
    unsure = next(answer for answer in answers if answer.unsure)
    assert repr(unsure).startswith(f"Answer(unsure, '{unsure.value}': ")
    assert not any(answer.unsure for answer in bitfit.predict(backbone, delta, texts, "fp32"))


def test_what_has_no_threshold_is_said(backbone: Backbone) -> None:
    texts = [str(text) for text in rows("number", 9)["text"]]
    found = bitfit.evaluation(backbone, trained("number", backbone)[1], (texts, [i / 9 for i in range(9)]))
    with pytest.raises(RequestError, match="one of the confidence in a class"):
        found.threshold(0.95)
    classes = bitfit.evaluation(backbone, trained(backbone=backbone)[1], (texts, ["no", "yes", "perhaps"] * 3))
    with pytest.raises(RequestError, match="above 0 and at most 1; found 95"):
        classes.threshold(95)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return trained()[0]
