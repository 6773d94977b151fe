"""A delta goes to a file and back, onto a backbone and off it, without losing a bit."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bitfit
from bitfit.backbone.fingerprint import fingerprint
from bitfit.errors import DeltaError, RequestError
from bitfit.methods.selection import Slot
from tests.models import ARCHITECTURES, tiny_backbone

from .conftest import TASK, make_delta

METHODS = ["bitfit", "bitfit[b_q]", "bitfit[b_k,b_m2]@1", "bitfit[value]", "frozen", "full", "layernorm"]
HEADS = ["full", "bias", "frozen"]
kept_backbone = cache(tiny_backbone)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def random_slots(model: torch.nn.Module, data: st.DataObject) -> tuple[Slot, ...]:
    """Some parameters whole, some in part: what any method may select."""
    slots = []
    for name, parameter in model.named_parameters():
        kind = data.draw(st.sampled_from(["none", "none", "whole", "range", "sparse"]))
        count = parameter.numel()
        if kind == "whole":
            index = None
        elif kind == "range":
            start = data.draw(st.integers(0, count - 1))
            index = np.arange(start, data.draw(st.integers(start + 1, count)))
        elif kind == "sparse":
            chosen = data.draw(st.sets(st.integers(0, count - 1), max_size=20))
            index = np.array(sorted(chosen), dtype=np.int64)
        if kind != "none":
            inert = data.draw(st.booleans())
            slots.append(Slot(name, tuple(parameter.shape), index, inert, name.startswith("classifier")))
    return tuple(slots)


def random_delta(backbone: bitfit.Backbone, data: st.DataObject) -> bitfit.Delta:
    slots = random_slots(backbone.task_model(TASK.head), data)
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = {
        slot.key: draw.standard_normal(slot.shape if slot.index is None else slot.size).astype(np.float32)
        for slot in slots
    }
    return bitfit.Delta(backbone.name, backbone.fingerprint, "drawn", "full", slots, values, TASK)


def assert_same(first: bitfit.Delta, second: bitfit.Delta) -> None:
    assert first.slots == second.slots
    assert first.task == second.task
    assert first.to_bytes() == second.to_bytes()
    for key, value in first.values.items():
        assert value.tobytes() == second.values[key].tobytes()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_every_method_goes_to_a_file_and_back(
    model: str, method: str, head: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    backbone = request.getfixturevalue(model)
    if method == "frozen" and head == "frozen":
        pytest.skip("trains nothing")
    if model == "gpt2" and head == "bias":
        pytest.skip("its head has no bias") if method == "frozen" else None
    delta = make_delta(backbone, method, head)
    delta.save(tmp_path / "file")
    assert_same(delta, bitfit.Delta.load(tmp_path / "file"))
    delta.verify(backbone)


@in_one_folder
@given(data=st.data())
@pytest.mark.slow
def test_any_selection_goes_to_bytes_and_back(bert: bitfit.Backbone, data: st.DataObject) -> None:
    delta = random_delta(bert, data)
    assert_same(delta, bitfit.Delta.from_bytes(delta.to_bytes()))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@settings(in_one_folder, max_examples=8)  # for each of nineteen architectures
@given(data=st.data())
def test_applying_gives_the_values_and_reverting_gives_the_backbone(model_type: str, data: st.DataObject) -> None:
    backbone = kept_backbone(model_type)
    delta = random_delta(backbone, data)
    with delta.applied(backbone) as model:
        parameters = dict(model.named_parameters())
        for slot in delta.slots:
            flat = parameters[slot.name].detach().flatten().numpy()
            found = flat if slot.index is None else flat[slot.index]
            assert found.tobytes() == delta.values[slot.key].tobytes()
        untouched = set(parameters) - {slot.name for slot in delta.slots}
        original = dict(backbone.task_model(TASK.head).named_parameters())
        assert all(torch.equal(parameters[name], original[name]) for name in untouched)
    assert fingerprint(backbone.model) == backbone.fingerprint


def test_an_error_inside_the_block_still_reverts(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    def interrupted() -> None:
        with delta.applied(bert):
            assert fingerprint(bert.model) != bert.fingerprint
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert fingerprint(bert.model) == bert.fingerprint


def test_two_deltas_can_be_applied_one_in_the_other(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    other = make_delta(bert, seed=1)
    name = "bert.encoder.layer.0.attention.self.query.bias"
    with delta.applied(bert) as outer, other.applied(bert):
        assert outer.get_parameter(name).detach().numpy().tobytes() == other.values[name].tobytes()
    assert fingerprint(bert.model) == bert.fingerprint


def test_reverting_twice_is_reverting_once(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    reverter = delta.apply(bert.task_model(TASK.head))
    reverter.revert()
    reverter.revert()
    assert fingerprint(bert.model) == bert.fingerprint


def test_another_backbone_is_refused_and_both_are_named(
    gpt2: bitfit.Backbone, bert: bitfit.Backbone, delta: bitfit.Delta
) -> None:
    with pytest.raises(DeltaError) as refused, delta.applied(gpt2):
        pass
    for word in (bert.name, bert.fingerprint, gpt2.name, gpt2.fingerprint):
        assert word in str(refused.value)


def test_a_model_that_does_not_fit_is_refused_before_anything_changes(
    bert: bitfit.Backbone, delta: bitfit.Delta
) -> None:
    three = bitfit.Task("mood", "class", ("text",), "label", ("sad", "glad", "mad"))
    model = bert.task_model(three.head)
    with pytest.raises(DeltaError, match=r"'classifier\.weight' has the shape \(2, 16\); the model's has \(3, 16\)"):
        delta.apply(model)
    with pytest.raises(DeltaError, match=r"a BertModel does not have"):
        delta.apply(bert.model)
    with pytest.raises(DeltaError, match=r"float32: model\.float\(\)"):
        delta.apply(bert.task_model(TASK.head).double())
    bert.model.float()


def test_values_that_do_not_fit_their_slots_are_refused(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    name = "classifier.bias"

    def with_value(value: np.ndarray) -> bitfit.Delta:
        return bitfit.Delta(
            bert.name, bert.fingerprint, "bitfit", "full", delta.slots, {**delta.values, name: value}, TASK
        )

    with pytest.raises(DeltaError, match=r"needs values of shape \(2,\); found \(3,\)"):
        with_value(np.zeros(3, dtype=np.float32))
    with pytest.raises(DeltaError, match="needs float32 values; found float64"):
        with_value(np.zeros(2))
    with pytest.raises(DeltaError, match="not finite"):
        with_value(np.array([0, np.nan], dtype=np.float32))


def test_equal_deltas_give_equal_files_whatever_the_order_of_their_fields(
    bert: bitfit.Backbone, delta: bitfit.Delta
) -> None:
    turned = bitfit.Delta(
        bert.name,
        bert.fingerprint,
        "bitfit",
        "full",
        delta.slots,
        dict(reversed(delta.values.items())),
        TASK,
        dict(delta.scores),
        dict(reversed(delta.settings.items())),
        dict(delta.versions),
    )
    assert turned.to_bytes() == delta.to_bytes()


def test_its_repr_says_what_it_is(delta: bitfit.Delta) -> None:
    assert "'bitfit'" in repr(delta)
    assert "'mood'" in repr(delta)
    assert f"{delta.size:,} values" in repr(delta)


def test_scores_and_settings_that_are_no_json_are_refused(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    bad = bitfit.Delta(
        bert.name,
        bert.fingerprint,
        "bitfit",
        "full",
        delta.slots,
        delta.values,
        TASK,
        {"test": {"f1": np.nan}},
    )
    with pytest.raises(DeltaError, match="no JSON"):
        bad.to_bytes()


def test_a_folder_stands_for_the_backbone(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    delta.verify(bert.name)
    with delta.apply(bert.task_model(delta.task.head)) as reverter:
        assert repr(reverter) == f"Reverter({len(delta.slots)} parameters to put back)"
    with delta.applied(bert.name) as model:
        np.testing.assert_array_equal(model.classifier.bias.detach().numpy(), delta.values["classifier.bias"])
    with pytest.raises(RequestError, match=r"Expected a backbone first, .* found a int"):
        delta.check(3)  # type: ignore[arg-type]
