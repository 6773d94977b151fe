"""The change table is (1/dim) * L1 distance of each term in each layer, also as a picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bitfit
from bitfit.delta.changes import Change, by_layer, changes, draw_changes
from bitfit.errors import DeltaError
from tests.models import tiny_backbone

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


def test_a_key_that_moves_in_part_is_one_vector_in_the_table_of_layers() -> None:
    found = changes(make_delta(backbone := tiny_backbone("gpt_neox")), backbone)
    moved, still = (change for change in found if (change.symbol, change.layer) == ("b_k", 0))
    mean = (moved.change * moved.size + still.change * still.size) / (moved.size + still.size)
    assert by_layer(found)["b_k", 0] == pytest.approx(mean)
    assert len(by_layer(found)) == 16


def test_new_parameters_whose_start_nobody_knows_are_left_out(bert: bitfit.Backbone) -> None:
    delta = make_delta(bert, "lora")
    names = {change.name for change in changes(delta, bert)}
    foreign = {change.name for change in changes(replace(delta, settings={}), bert)}
    assert {name for name in names if "lora_B" in name} == foreign


def test_the_picture_goes_where_it_was_told_or_nowhere(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = [Change("b_q", "query", 0, "q", 4, 0.5)]
    for name in ("picture", "picture.docx"):
        with pytest.raises(DeltaError, match="ends with its format"):
            draw_changes(found, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    draw_changes(found, tmp_path / "picture.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.svg"]


def test_a_long_title_fits_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    title = "a task with a long name, random-rows-columns: mean absolute change"
    draw_changes([Change("b_q", "query", 0, "q", 4, 0.5)], tmp_path / "a.png", title)
    pixels = imread(tmp_path / "a.png")[..., :3]
    assert (pixels[:, [0, -1]] == 1).all()  # nothing runs over the left or right edge
