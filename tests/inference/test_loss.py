"""Losses of each kind against torch's own, and their sums for each row."""

import pytest
import torch
from torch.nn import functional

from bitfit.inference.loss import UNLABELLED, losses
from bitfit.runtime.layout import Layout

LAYOUT = Layout((3, 1, 4, 2), (3, 1))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_classes() -> None:
    answers, labels = drawn(4, 3), torch.tensor([0, 2, 1, 1])
    loss = losses("class", answers, labels, LAYOUT)
    each = functional.cross_entropy(answers, labels, reduction="none")
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
