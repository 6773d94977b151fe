"""The order of the data is a function of seed and epoch; steps are cut by a row's own lengths alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfit.training import order

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(lambda own: np.array(own, np.int64))


def test_an_epoch_is_every_example_once_in_an_order_of_its_own() -> None:
    orders = [order.shuffled(seed, epoch, 50) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(own) == list(range(50)) for own in orders)
    assert len({tuple(own) for own in orders}) == 4
    assert np.array_equal(order.shuffled(0, 0, 50), orders[0])


@pytest.mark.parametrize(("examples", "batch", "steps"), [(22, 8, 3), (24, 8, 3), (1, 8, 1)])
def test_the_last_batch_may_be_smaller(examples: int, batch: int, steps: int) -> None:
    own = order.RowOrder(0, examples, batch)
    assert own.steps_an_epoch == steps
    assert sorted(np.concatenate([own.batch(step) for step in range(steps)])) == list(range(examples))


def test_a_rows_batches_are_cut_from_its_epochs_in_turn() -> None:
    own = order.RowOrder(3, 22, 8)
    for step in (0, 1, 2, 3, 5, 4, 2, 30):  # also backwards, as a run that goes on may ask
        epoch, here = divmod(step, 3)
        assert np.array_equal(own.batch(step), order.shuffled(3, epoch, 22)[8 * here : 8 * here + 8])
    with pytest.raises(ValueError, match="read-only"):
        own.batch(0)[0] = 1


def test_each_epoch_is_shuffled_once_for_each_row_however_many_rows_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    real = order.shuffled

    def counted(seed: int, epoch: int, examples: int) -> np.ndarray:
        seen.append((seed, epoch))
        return real(seed, epoch, examples)

    monkeypatch.setattr(order, "shuffled", counted)
    rows = [order.RowOrder(seed, 40, 8) for seed in range(100)]
    for step in range(10):
        for own in rows:
            own.batch(step)
    assert len(seen) == len(set(seen)) == 200


@given(sizes, st.integers(1, 100))
def test_a_cut_keeps_the_order_and_the_budget(lengths: np.ndarray, budget: int) -> None:
    examples = np.arange(len(lengths))[::-1].copy()
    chunks = order.micro_batches(3, examples, lengths, budget)
    assert np.array_equal(np.concatenate([chunk.examples for chunk in chunks]), examples)
    for chunk in chunks:
        assert chunk.row == 3
        assert lengths[chunk.examples].sum() <= budget or len(chunk.examples) == 1


@given(st.lists(sizes, min_size=1, max_size=5), st.integers(1, 100))
def test_rows_share_passes_and_each_keeps_its_own_cut(rows: list[np.ndarray], budget: int) -> None:
    lengths = np.concatenate(rows)
    starts = np.cumsum([0, *map(len, rows)])
    own = [order.micro_batches(i, np.arange(starts[i], starts[i + 1]), lengths, budget) for i in range(len(rows))]
    passes = list(order.shared_passes(own, lengths, budget))
    for i, chunks in enumerate(own):
        mine = [chunk for shared in passes for chunk in shared if chunk.row == i]
        assert [id(chunk) for chunk in mine] == [id(chunk) for chunk in chunks]
    for shared in passes:
        assert len({chunk.row for chunk in shared}) == len(shared)
        tokens = sum(int(lengths[chunk.examples].sum()) for chunk in shared)
        assert tokens <= budget or len(shared) == 1
