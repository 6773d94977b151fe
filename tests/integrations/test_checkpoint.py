"""A merged folder is an ordinary checkpoint that predicts what the delta predicts."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import bitfit
from bitfit.backbone.fingerprint import fingerprint
from bitfit.errors import DeltaError, RequestError
from bitfit.integrations.checkpoint import merge
from tests.delta.conftest import make_delta
from tests.models import tiny_backbone


@pytest.mark.parametrize("method", ["bitfit", "bitfit[b_q]@0", "full", "frozen"])
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_a_merged_checkpoint_predicts_the_same_through_transformers_alone(
    model: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    backbone = request.getfixturevalue(model)
    delta = make_delta(backbone, method)
    folder = merge(delta, backbone, tmp_path / "merged")
    ids = torch.randint(3, 50, (4, 7))
    ordinary = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found = ordinary(input_ids=ids).logits
        with delta.applied(backbone) as trained:
            torch.testing.assert_close(found, trained(input_ids=ids).logits, rtol=0, atol=1e-5)
    assert ordinary.config.id2label == {0: "sad", 1: "glad"}
    assert fingerprint(backbone.model) == backbone.fingerprint
    assert "glad" not in str(backbone.config)


def test_a_folder_that_is_there_is_left_alone(bert: bitfit.Backbone, delta: bitfit.Delta, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="exists already"):
        merge(delta, bert, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_writing_fails(bert: bitfit.Backbone, delta: bitfit.Delta, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be written"):
        merge(delta, bert, tmp_path / "no" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_our_own_head_is_refused_with_the_way_out(bert: bitfit.Backbone, tmp_path: Path) -> None:
    task = bitfit.Task("mood", "class", ("text",), "label", ("sad", "glad"), pool="mean")
    with pytest.raises(DeltaError, match="--pool first"):
        merge(make_delta(bert, task=task), bert, tmp_path / "merged")
    backbone = tiny_backbone("opt")  # which has no class of its own for tags: there is no other way
    tags = bitfit.Task("pos", "tags", ("words",), "tags", ("A", "B"))
    with pytest.raises(DeltaError, match="'opt' has none for the kind 'tags'"):
        merge(make_delta(backbone, task=tags), backbone, tmp_path / "merged")
