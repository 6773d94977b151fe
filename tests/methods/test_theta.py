"""The tensors of a training pass are those of any other, and so are their gradients."""

import pytest
import torch

from bitfit.backbone.heads import Head
from bitfit.backbone.task_model import head_start
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.dropout import Draws
from bitfit.runtime.row_model import RowModel
from tests.models import tiny_backbone

HEAD = Head("class", 2)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["random-uniform", "random-rows-columns", "bitfit[b_q]"])
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_a_training_pass_has_the_same_tensors_and_gradients(model_type: str, method: str, compute: torch.dtype) -> None:
    backbone = tiny_backbone(model_type)
    plain = backbone.task_model(HEAD)
    fast = RowModel(backbone.task_model(HEAD), HEAD, compute)
    rows = ThetaMap(with_whole_head(select(plain, method, seed=3), plain), plain, fast)
    start = rows.starting_row(head_start(plain, 0))[None]
    for step in range(3):  # nothing of one pass is left in the next
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(step))
        theta = [(start + noise).requires_grad_() for _ in range(2)]
        ways = rows.drawn(theta[0], Draws([0])), rows.tensors(theta[1])
        assert ways[0].keys() == ways[1].keys()
        for name, value in ways[0].items():
            wanted = ways[1][name].to(fast.format_of(name))
            assert torch.equal(value.to(wanted.dtype), wanted), name
        for tensors in ways:
            sums = [value.to(fast.format_of(name)).float().sin().sum() for name, value in tensors.items()]
            torch.stack(sums).sum().backward()
        assert theta[0].grad is not None
        assert theta[1].grad is not None
        assert torch.equal(theta[0].grad, theta[1].grad)
    assert torch.equal(rows.start, ThetaMap(rows.slots, plain).start)
