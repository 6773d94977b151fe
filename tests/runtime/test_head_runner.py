"""One pass of an encoder, then heads of several kinds and sizes, each on its own sequences."""

import pytest
import torch
from torch import Tensor

from bitfit.backbone.heads import Head
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.encoder import Encoder
from bitfit.runtime.head_runner import HeadRunner
from bitfit.runtime.layout import Batch, Layout
from bitfit.runtime.row_model import RowModel
from tests.batches import assert_near, both
from tests.models import tiny_backbone

HEADS = (
    Head("class", 2),
    Head("class", 47),
    Head("class", 3, "mean"),
    Head("number", 1),
    Head("tags", 5),
    Head("span", 2),
)
SIZES = ((9, 17), (3,), (1, 33, 16), (5,), (12, 7), (20,))  # of each task's texts


@pytest.mark.parametrize("model_type", ["bert", "roberta", "albert", "distilbert", "gpt2", "opt", "gpt_neox", "qwen2"])
def test_a_mixed_batch_answers_each_task_as_its_own_model_does(model_type: str) -> None:
    backbone = tiny_backbone(model_type)
    encoder = Encoder(backbone.task_model(HEADS[0]).base_model, "base", torch.float32)
    tasks, encoder_rows, wanted, batches = [], [], [], []
    for number, (head, sizes) in enumerate(zip(HEADS, SIZES, strict=True)):
        plain = backbone.task_model(head, number)
        rows = ThetaMap(with_whole_head(select(plain, "bitfit"), plain), plain)
        generator = torch.Generator().manual_seed(number)
        values = rows.tensors((rows.start + torch.randn(rows.size, generator=generator) * 0.1)[None])
        batch = both(model_type, sizes)[1]
        wanted.append(RowModel(backbone.task_model(head), head, torch.float32).answers(batch, values))
        runner = HeadRunner(backbone.task_model(head), head, torch.float32)
        inside = f"{plain.base_model_prefix}."
        own = {f"base.{name.removeprefix(inside)}": value for name, value in values.items() if name.startswith(inside)}
        encoder_rows.append({name: value for name, value in own.items() if name in encoder.parameters})
        tasks.append((runner, values))
        batches.append(batch)
    layout = Layout(tuple(n for sizes in SIZES for n in sizes), tuple(len(sizes) for sizes in SIZES))
    mixed = Batch(torch.cat([batch.ids for batch in batches]), torch.cat([batch.types for batch in batches]), layout)
    stacked = {name: torch.stack([row[name] for row in encoder_rows]) for name in encoder_rows[0]}
    states = encoder.states(mixed, stacked)
    bounds = layout.tokens.bounds
    for row, (runner, values) in enumerate(tasks):
        found: Tensor = runner.answers(states[bounds[row] : bounds[row + 1]], layout.of_rows(row, row + 1), values)
        assert_near(found, wanted[row])
