"""Deltas are compared, averaged and added up; those that do not go together are refused."""

from dataclasses import replace

import numpy as np
import pytest

import bitfit
from bitfit.delta.combine import add, average, compare
from bitfit.errors import DeltaError

from .conftest import make_delta

QUERY = "bert.encoder.layer.0.attention.self.query.bias"


def test_a_delta_is_identical_to_itself(delta: bitfit.Delta) -> None:
    comparison = compare(delta, bitfit.Delta.from_bytes(delta.to_bytes()))
    assert comparison.identical
    assert comparison.to_json()["identical"] is True


def test_differences_are_told_by_field_and_by_slot(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    other = make_delta(bert, "bitfit[b_q]", seed=1)
    comparison = compare(delta, other)
    assert comparison.fields["method"] == ("bitfit", "bitfit[b_q]")
    assert comparison.fields["settings.seed"] == (0, 1)
    found = next(slot for slot in comparison.slots if slot.key == QUERY)
    gap = np.abs(delta.values[QUERY].astype(np.float64) - other.values[QUERY])
    assert found.mean == pytest.approx(gap.mean())
    assert found.largest == pytest.approx(gap.max())
    assert "bert.embeddings.LayerNorm.bias" in comparison.only_first
    assert comparison.only_second == ()


def test_what_only_one_of_the_two_says_is_told(delta: bitfit.Delta) -> None:
    more = replace(delta, scores={**delta.scores, "test": {"accuracy": 0.5}}, settings={})
    assert compare(delta, more).fields == {
        "settings.seed": (0, None),
        "settings.learning_rate": (1e-3, None),
        "scores.test.accuracy": (None, 0.5),
    }
    assert compare(more, delta).fields["scores.test.accuracy"] == (0.5, None)
    assert not compare(delta, more).identical


def test_the_average_of_copies_is_the_copy_to_the_bit(delta: bitfit.Delta) -> None:
    made = average([delta, delta, delta])
    assert all(made.values[key].tobytes() == value.tobytes() for key, value in delta.values.items())
    assert made.scores == {}
    assert made.settings == {"combined": "average", "of": ["mood: bitfit"] * 3}


def test_the_average_is_taken_element_by_element(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    made = average([delta, make_delta(bert, seed=1)])
    expected = (delta.values[QUERY].astype(np.float64) + make_delta(bert, seed=1).values[QUERY]) / 2
    np.testing.assert_allclose(made.values[QUERY], expected, rtol=1e-6)


def test_a_sum_adds_changes_to_the_backbone_and_averages_heads(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    other = make_delta(bert, seed=1)
    made = add([delta, other], bert)
    start = bert.task_model(delta.task.head).get_parameter(QUERY).detach().numpy()
    expected = delta.values[QUERY] + other.values[QUERY] - start
    np.testing.assert_allclose(made.values[QUERY], expected, rtol=1e-5, atol=1e-6)
    head = "classifier.weight"
    np.testing.assert_allclose(made.values[head], (delta.values[head] + other.values[head]) / 2, rtol=1e-6)


def test_deltas_that_do_not_go_together_are_refused(
    bert: bitfit.Backbone, gpt2: bitfit.Backbone, delta: bitfit.Delta
) -> None:
    with pytest.raises(DeltaError, match="Deltas of one backbone were expected"):
        average([delta, make_delta(gpt2)])
    with pytest.raises(DeltaError, match="Deltas of one selection were expected"):
        average([delta, make_delta(bert, "bitfit[b_q]")])
    with pytest.raises(DeltaError, match=r"'bitfit' \(head full, .*\) and 'bitfit' \(head bias, "):
        average([delta, make_delta(bert, head="bias")])
    other = bitfit.Task("mood", "class", ("text",), "label", ("no", "yes"))
    with pytest.raises(DeltaError, match=r"found class of sad, glad \(first\) and"):
        average([delta, make_delta(bert, task=other)])
    with pytest.raises(DeltaError, match=r"found class of sad, glad \(first\) and class of a, b, c \(first\)"):
        average([delta, make_delta(bert, task=bitfit.Task("mood", labels=["a", "b", "c"]))])
    with pytest.raises(DeltaError, match="no delta to combine"):
        average([])
