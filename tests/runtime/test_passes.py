"""Threads that share a model: each pass has its own rows, values and dropout, whatever runs beside it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from bitfit.backbone.heads import Head
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.dropout import Draws
from bitfit.runtime.passes import current, maybe_current
from bitfit.runtime.row_model import RowModel
from tests.batches import assert_near, both
from tests.models import tiny_backbone

HEAD = Head("class", 3)
ROUNDS = 4


class Work:
    """What one thread does again and again: a pass forward and backward with values of its own."""

    def __init__(self, model: RowModel, rows: ThetaMap, number: int, dropout: bool) -> None:
        self.model, self.rows, self.seed = model, rows, number if dropout else None
        generator = torch.Generator().manual_seed(number)
        self.theta = rows.start[None] + torch.randn(1, rows.size, generator=generator) * 0.1
        self.batch = both("bert", (5 + number, 9, 3 + 2 * number))[1]

    def __call__(self) -> tuple[Tensor, Tensor]:
        theta = self.theta.clone().requires_grad_()
        draws = None if self.seed is None else Draws([self.seed])
        answers = self.model.answers(self.batch, self.rows.tensors(theta), draws)
        answers.square().sum().backward()
        assert theta.grad is not None
        return answers.detach(), theta.grad


def at_once(works: list[Work]) -> list[list[tuple[Tensor, Tensor]]]:
    """All of them in threads that start together, some rounds each."""
    barrier = threading.Barrier(len(works))

    def rounds(work: Callable[[], tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        barrier.wait()
        return [work() for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(rounds, works))


@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("dropout", [False, True], ids=["sure", "dropout"])
@pytest.mark.parametrize(
    ("model_type", "methods"),
    [
        ("bert", ["bitfit"]),
        ("llama", ["layernorm"]),
        ("bert", ["bitfit", "full"]),  # `full` puts values into modules that read none from a pass
        ("deberta-v2", ["bitfit"]),  # padded
        ("mpnet", ["bitfit", "full"]),
    ],
    ids=str,
)
def test_threads_that_share_a_model_answer_and_learn_as_each_does_alone(
    model_type: str, methods: list[str], dropout: bool, threads: int
) -> None:
    backbone = tiny_backbone(model_type)
    plain = backbone.task_model(HEAD)
    model = RowModel(backbone.task_model(HEAD), HEAD, torch.float32)
    maps = [ThetaMap(with_whole_head(select(plain, method), plain), plain) for method in methods]
    works = [Work(model, maps[number % len(maps)], number, dropout) for number in range(threads)]
    alone = [work() for work in works]
    for wanted, found in zip(alone, at_once(works), strict=True):
        for answers, gradient in found:
            assert_near(answers, wanted[0], 1e-5)
            assert_near(gradient, wanted[1], 1e-4)


def test_outside_a_pass_there_is_none() -> None:
    assert maybe_current() is None
    with pytest.raises(LookupError):
        current()


def test_a_value_for_a_parameter_that_is_not_there_is_an_error() -> None:
    model = RowModel(tiny_backbone("bert").task_model(HEAD), HEAD, torch.float32)
    with pytest.raises(KeyError, match=r"no parameter 'bert\.nowhere\.bias'"):
        model.answers(both("bert", (5,))[1], {"bert.nowhere.bias": torch.zeros(3)})


def test_values_leave_the_model_as_it_was() -> None:
    backbone = tiny_backbone("bert")
    plain = backbone.task_model(HEAD)
    model = RowModel(backbone.task_model(HEAD), HEAD, torch.float32)
    before = {id(parameter): parameter.clone() for parameter in model.parameters()}
    for method in ("bitfit", "full"):
        Work(model, ThetaMap(with_whole_head(select(plain, method), plain), plain), 3, dropout=False)()
    after = {id(parameter): parameter for parameter in model.parameters()}
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not any(parameter.requires_grad for parameter in after.values())
