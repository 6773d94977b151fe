"""Answers over a split: in the split's order, the same whatever shares a pass and for each row."""

import numpy as np
import pytest
import torch

from bitfit.inference.loss import losses
from bitfit.inference.outputs import batch_of, labels_of, outputs
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.row_model import RowModel
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data


@pytest.mark.parametrize("model_type", ["bert", "mpnet"])
@pytest.mark.parametrize("kind", ["class", "number", "tags"])
def test_answers_stand_in_the_splits_order_whatever_shares_a_pass(kind: str, model_type: str) -> None:
    data = tiny_data(kind)
    head, examples = data.task.head, data.splits["train"]
    model = RowModel(tiny_backbone(model_type).task_model(head), head, torch.float32)
    wanted = outputs(model, {}, examples)[0]
    for budget in (1, 20, 100):
        found = outputs(model, {}, examples, budget=budget)[0]
        np.testing.assert_allclose(found.values, wanted.values, rtol=0, atol=1e-5)
        assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
    which = np.arange(len(examples))
    with torch.no_grad():
        batch = batch_of(examples, which, (len(which),))
        answers = model.answers(batch, {})
        loss = losses(kind, answers, labels_of(examples, which, kind == "tags"), batch.layout)  # type: ignore[arg-type]
    assert wanted.loss == pytest.approx(float(loss.sums / loss.counts), rel=1e-5)
    if kind == "class":
        np.testing.assert_allclose(wanted.values, answers.numpy(), rtol=0, atol=1e-5)


def test_each_row_answers_for_itself() -> None:
    data = tiny_data()
    head, examples, backbone = data.task.head, data.splits["train"], tiny_backbone("bert")
    plain = backbone.task_model(head)
    rows = ThetaMap(with_whole_head(select(plain), plain), plain)
    model = RowModel(backbone.task_model(head), head, torch.float32)
    theta = rows.start + 0.1 * torch.randn(3, rows.size, generator=torch.Generator().manual_seed(1))
    together = outputs(model, rows.tensors(theta), examples, rows=3, budget=60)
    for row, found in enumerate(together):
        alone = outputs(model, rows.tensors(theta[row : row + 1]), examples)[0]
        np.testing.assert_allclose(found.values, alone.values, rtol=0, atol=1e-5)
        assert found.loss == pytest.approx(alone.loss, rel=1e-4)


def test_unknown_labels_have_no_loss() -> None:
    data = tiny_data()
    examples = data.splits["test"]
    examples.labels[2] = -1
    model = RowModel(tiny_backbone("bert").task_model(data.task.head), data.task.head, torch.float32)
    assert outputs(model, {}, examples)[0].loss is None
