"""Groups of sequences of like length: who is in them, in what order, and the way into their blocks and back."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bitfit.runtime.blocks import SCORES, bucket
from bitfit.runtime.layout import Layout

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
