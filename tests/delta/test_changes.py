"""The change table is (1/dim) * L1 distance of each term in each layer."""

import numpy as np
import pytest

import bitfit
from bitfit.delta.changes import changes

from .conftest import make_delta


def test_every_term_of_every_layer_is_there_once(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    found = changes(delta, bert)
    inside = [(change.symbol, change.layer) for change in found if change.layer is not None]
    symbols = ["b_q", "b_k", "b_v", "b_m1", "b_LN1", "b_m2", "b_m3", "b_LN2"]
    assert sorted(inside) == sorted((symbol, layer) for symbol in symbols for layer in (0, 1))
    assert {change.role for change in found if change.layer is None} == {"embedding_norm", "pooler"}


def test_a_change_is_the_mean_absolute_difference(bert: bitfit.Backbone, delta: bitfit.Delta) -> None:
    name = "bert.encoder.layer.1.intermediate.dense.bias"
    start = bert.task_model(delta.task.head).get_parameter(name).detach().numpy()
    found = next(change for change in changes(delta, bert) if change.name == name)
    assert (found.symbol, found.role, found.layer, found.size) == ("b_m2", "intermediate", 1, 32)
    assert found.change == pytest.approx(np.abs(delta.values[name] - start).sum() / 32)


def test_parts_of_a_fused_parameter_are_told_apart(gpt2: bitfit.Backbone) -> None:
    for method in ("bitfit", "full"):
        delta = make_delta(gpt2, method)
        found = [c for c in changes(delta, gpt2) if c.name == "transformer.h.0.attn.c_attn.bias"]
        assert {change.symbol for change in found} == {"b_q", "b_k", "b_v"}
        assert sum(change.size for change in found) == 48


def test_weights_are_listed_by_their_parameter(bert: bitfit.Backbone) -> None:
    found = {change.name: change for change in changes(make_delta(bert, "full"), bert)}
    assert found["bert.pooler.dense.weight"].role == "weight"
    assert found["bert.pooler.dense.weight"].size == 256
    assert not any(name.startswith("classifier") for name in found)
