"""Rows: where they lie in a batch, and that a row beside others computes what it computes alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitfit.backbone.heads import Head
from bitfit.methods.method import select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.dropout import Draws
from bitfit.runtime.layout import SCORES, Batch, Layout, bucket
from bitfit.runtime.row_model import RowModel
from tests.batches import HEADS, SHAKEN, assert_near, both
from tests.models import tiny_backbone

COUNTS = (2, 1, 3)  # sequences of each row
SIZES = (9, 17, 3, 1, 33, 16)
each_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.kind}-{head.pool}")


def test_positions_begin_anew_in_each_sequence() -> None:
    assert Layout((3, 1, 2), (2, 1)).positions.tolist() == [0, 1, 2, 0, 0, 1]


def test_bounds_of_tokens_and_of_sequences() -> None:
    layout = Layout((3, 1, 2), (2, 1))
    assert layout.tokens.bounds == (0, 4, 6)
    assert layout.sequences.bounds == (0, 2, 3)


def test_a_layout_of_some_rows() -> None:
    layout = Layout((3, 1, 2, 5), (2, 1, 1)).of_rows(1, 3)
    assert (layout.lengths, layout.counts) == ((2, 5), (1, 1))


def values_of_rows(rows: ThetaMap, count: int) -> Tensor:
    """Rows that differ from each other and from the backbone."""
    generator = torch.Generator().manual_seed(3)
    return rows.start + 0.1 * torch.randn(count, rows.size, generator=generator)


def alone(batch: Batch, row: int) -> Batch:
    """The part of a batch that is one row's."""
    first, last = batch.layout.row_starts[row], batch.layout.row_starts[row + 1]
    start, stop = batch.layout.starts[first], batch.layout.starts[last]
    layout = Layout(batch.layout.lengths[first:last], (last - first,))
    return Batch(batch.ids[start:stop], batch.types[start:stop], layout)


@each_head
@pytest.mark.parametrize("dropout", [False, True], ids=["sure", "dropout"])
@pytest.mark.parametrize(
    ("model_type", "method"),
    [
        *((name, "bitfit") for name in ("bert", "roberta", "distilbert", "albert", "gpt2", "opt", "gpt_neox", "qwen2")),
        *((name, "layernorm") for name in ("bert", "gpt2", "llama", "modernbert")),
    ],
)
def test_rows_together_answer_and_learn_as_each_does_alone(
    model_type: str, method: str, dropout: bool, head: Head
) -> None:
    backbone = tiny_backbone(model_type, **SHAKEN.get(model_type, {}))
    plain = backbone.task_model(head)
    rows = ThetaMap(with_whole_head(select(plain, method), plain), plain)
    model = RowModel(backbone.task_model(head), head, torch.float32)
    assert model.takes_rows(slot.name for slot in rows.slots)
    _, batch = both(model_type, SIZES)
    batch = Batch(batch.ids, batch.types, Layout(SIZES, COUNTS))
    theta = values_of_rows(rows, len(COUNTS)).requires_grad_()

    def learnt(part: Batch, values: Tensor, seeds: list[int]) -> tuple[Tensor, Tensor]:
        answers = model.answers(part, rows.tensors(values), Draws(seeds) if dropout else None)
        (gradient,) = torch.autograd.grad(answers.square().sum(), values)
        return answers.detach(), gradient

    answers, gradient = learnt(batch, theta, [5, 6, 7])
    bounds = (batch.layout.sequences if head.kind in ("class", "number") else batch.layout.tokens).bounds
    for row in range(len(COUNTS)):
        own = theta.detach()[row : row + 1].clone().requires_grad_()
        answer, own_gradient = learnt(alone(batch, row), own, [5 + row])
        assert_near(answers[bounds[row] : bounds[row + 1]], answer)
        assert_near(gradient[row], own_gradient[0])


@pytest.mark.parametrize("model_type", ["llama", "modernbert"])
def test_heads_over_a_backbone_without_biases_share_a_pass(model_type: str) -> None:
    backbone, head = tiny_backbone(model_type), Head("class", 3)
    plain = backbone.task_model(head)
    rows = ThetaMap(with_whole_head(select(plain, "frozen"), plain), plain)
    model = RowModel(backbone.task_model(head), head, torch.float32)
    assert model.takes_rows(slot.name for slot in rows.slots)
    _, batch = both(model_type, SIZES)
    batch = Batch(batch.ids, batch.types, Layout(SIZES, COUNTS))
    theta = values_of_rows(rows, len(COUNTS))
    answers = model.answers(batch, rows.tensors(theta))
    bounds = (batch.layout.sequences if head.kind in ("class", "number") else batch.layout.tokens).bounds
    for row in range(len(COUNTS)):
        own = model.answers(alone(batch, row), rows.tensors(theta[row : row + 1]))
        assert_near(answers[bounds[row] : bounds[row + 1]], own)


@pytest.mark.parametrize("method", ["full", "random-uniform"])
def test_weights_of_the_encoder_are_not_a_rows_own(method: str) -> None:
    backbone, head = tiny_backbone("bert"), Head("class", 3)
    plain = backbone.task_model(head)
    model = RowModel(backbone.task_model(head), head, torch.float32)
    assert not model.takes_rows(slot.name for slot in select(plain, method).slots)


@pytest.mark.parametrize("model_type", ["mpnet", "deberta-v2", "bart", "bloom"])
def test_padded_batches_hold_one_row(model_type: str) -> None:
    backbone, head = tiny_backbone(model_type), Head("class", 3)
    plain = backbone.task_model(head)
    model = RowModel(backbone.task_model(head), head, torch.float32)
    assert not model.takes_rows(slot.name for slot in select(plain, "bitfit").slots)


lengths = st.lists(st.integers(1, 300), min_size=1, max_size=12)


@given(st.integers(1, 5000))
def test_a_group_is_wide_enough_and_wastes_little(length: int) -> None:
    width = bucket(length)
    assert length <= width <= max(length + 31, 1.5 * length)
    assert width % 16 == 0
    assert bucket(width) == width


@given(lengths)
def test_groups_hold_each_token_once(sizes: list[int]) -> None:
    layout = Layout(tuple(sizes), (len(sizes),))
    seen: list[int] = []
    for group in layout.blocks.groups:
        seen += group.positions[group.full].tolist()
    assert sorted(seen) == list(range(sum(sizes)))


@given(st.lists(lengths, min_size=1, max_size=5))
def test_a_row_draws_for_its_sequences_in_one_order_alone_and_beside_others(rows: list[list[int]]) -> None:
    layout = Layout(tuple(size for row in rows for size in row), tuple(len(row) for row in rows))
    for row, own in enumerate(rows):
        assert drawn_for(layout, row) == drawn_for(Layout(tuple(own), (len(own),)), 0)


def drawn_for(layout: Layout, row: int) -> list[tuple[int, int]]:
    """A row's sequences in the order of their groups, numbered within the row, each with its width."""
    first = layout.row_starts[row]
    found = []
    for group in layout.blocks.groups:
        before = sum(group.counts[:row])
        mine = group.sequences[before : before + group.counts[row]]
        assert all(0 <= i - first < layout.counts[row] for i in mine)
        found += [(i - first, group.width) for i in mine]
    return found


def test_a_group_fits_into_the_cache() -> None:
    layout = Layout((200,) * 40 + (20,) * 40 + (5000,) * 2, (82,))
    assert [(group.width, len(group.sequences)) for group in layout.blocks.groups] == [
        (32, 40),
        *[(bucket(200), SCORES // bucket(200) ** 2)] * (40 // (SCORES // bucket(200) ** 2)),
        (bucket(5000), 1),
        (bucket(5000), 1),
    ]


@given(lengths, st.integers(1, 3), st.integers(1, 4))
def test_what_is_taken_into_blocks_is_put_back(sizes: list[int], parts: int, heads: int) -> None:
    layout = Layout(tuple(sizes), (len(sizes),))
    x = torch.randn(sum(sizes) + layout.filler, parts, heads, 2)
    lines = layout.blocks.blank(x, parts, heads)
    lines[:-1] = layout.blocks.take(x)
    for group, block in zip(layout.blocks.groups, layout.blocks.of_each(lines, parts, heads), strict=True):
        for number, sequence in enumerate(group.sequences):
            start, stop = layout.starts[sequence], layout.starts[sequence + 1]
            own = block.unflatten(1, (len(group.sequences), heads))[:, number, :, : stop - start]
            assert torch.equal(own, x[start:stop].permute(1, 2, 0, 3))
    back = layout.blocks.put(lines, parts, heads)
    assert torch.equal(back[: sum(sizes)], x[: sum(sizes)])
    assert not back[sum(sizes) :].any()


@given(lengths)
def test_empty_places_are_known(sizes: list[int]) -> None:
    blocks = Layout(tuple(sizes), (len(sizes),)).blocks
    full = blocks.full(3)
    assert (full is None) == all(size == bucket(size) for size in sizes)
    assert full is None or int(full.sum()) == 3 * sum(sizes)
