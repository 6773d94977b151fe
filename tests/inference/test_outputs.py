"""Answers over a split: in the split's order, the same whatever shares a pass and for each row."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from bitfit.inference.outputs import UNLABELLED, batch_of, labels_of, losses, outputs
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.layout import Layout
from bitfit.runtime.row_model import RowModel
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data


@pytest.mark.parametrize("model_type", ["bert", "mpnet"])
@pytest.mark.parametrize("kind", ["class", "labels", "number", "tags"])
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
    if kind in ("class", "labels"):
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


LAYOUT = Layout((3, 1, 4, 2), (3, 1))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_classes() -> None:
    answers, labels = drawn(4, 3), torch.tensor([0, 2, 1, 1])
    loss = losses("class", answers, labels, LAYOUT)
    each = functional.cross_entropy(answers, labels, reduction="none")
    torch.testing.assert_close(loss.sums, torch.stack([each[:3].sum(), each[3]]))
    assert loss.counts.tolist() == [3, 1]


def test_labels() -> None:
    answers, labels = drawn(4, 3), torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.int8)
    loss = losses("labels", answers, labels, LAYOUT)
    each = functional.binary_cross_entropy_with_logits(answers, labels.float(), reduction="none").mean(1)
    torch.testing.assert_close(loss.sums, torch.stack([each[:3].sum(), each[3]]))
    assert loss.counts.tolist() == [3, 1]


def test_weights_of_classes_are_each_rows_own() -> None:
    answers, labels = drawn(4, 3), torch.tensor([0, 2, 1, 1])
    weights = torch.tensor([[0.5, 2.0, 1.0], [1.0, 3.0, 1.0]])
    loss = losses("class", answers, labels, LAYOUT, weights)
    each = functional.cross_entropy(answers, labels, reduction="none") * torch.tensor([0.5, 1.0, 2.0, 3.0])
    torch.testing.assert_close(loss.sums, torch.stack([each[:3].sum(), each[3]]))
    assert loss.counts.tolist() == [3, 1]


def test_numbers() -> None:
    answers, labels = drawn(4, 1), torch.tensor([0.5, -1.0, 0.0, 2.0])
    loss = losses("number", answers, labels, LAYOUT)
    assert float(loss.sums[0]) == pytest.approx(float(functional.mse_loss(answers[:3, 0], labels[:3], reduction="sum")))


def test_tags_count_labelled_words_alone() -> None:
    labels = torch.tensor([UNLABELLED, 1, 0, 2, UNLABELLED, 1, 1, 0, UNLABELLED, UNLABELLED])
    answers = drawn(10, 3)
    loss = losses("tags", answers, labels, LAYOUT)
    assert loss.counts.tolist() == [6, 0]
    wanted = functional.cross_entropy(answers[:8], labels[:8], ignore_index=UNLABELLED, reduction="sum")
    torch.testing.assert_close(loss.sums, torch.stack([wanted, torch.zeros(())]))


def test_spans_compare_places_of_their_own_window_alone() -> None:
    answers, labels = drawn(10, 2), torch.tensor([[0, 2], [0, 0], [1, 3], [1, 1]])
    loss = losses("span", answers, labels, LAYOUT)
    each = [
        sum(functional.cross_entropy(part[:, side], label[side]) for side in (0, 1)) / 2
        for part, label in zip(answers.split(list(LAYOUT.lengths)), labels, strict=True)
    ]
    torch.testing.assert_close(loss.sums, torch.stack([sum(each[:3], torch.zeros(())), each[3]]))
