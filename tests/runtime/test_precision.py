"""The number format that is found by measuring: the same however busy the machine is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitfit.runtime import precision


class Machine:
    """Time that passes in matrix products alone: a fixed time for each format, and for some calls a stop."""

    def __init__(self, bf16: float, fp32: float, stopped: Callable[[int], bool]) -> None:
        self.now, self.calls, self.stopped = 0.0, 0, stopped
        self.each = {torch.bfloat16: bf16, torch.float32: fp32}

    def perf_counter(self) -> float:
        return self.now

    def mm(self, left: Tensor, right: Tensor) -> Tensor:
        self.calls += 1
        self.now += self.each[left.dtype] + (0.05 if self.stopped(self.calls) else 0.0)
        return right


@pytest.mark.parametrize(
    "stopped",
    [lambda call: False, lambda call: call in (3, 4, 5), lambda call: call % 3 != 0, lambda call: call > 6],
    ids=["idle", "stopped once", "stopped mostly", "stopped from then on"],
)
@pytest.mark.parametrize("fast", [True, False])
def test_other_processes_do_not_decide_the_format(
    monkeypatch: pytest.MonkeyPatch, stopped: Callable[[int], bool], fast: bool
) -> None:
    machine = Machine(0.0004 if fast else 0.006, 0.003, stopped)
    monkeypatch.setattr(precision, "time", machine)
    monkeypatch.setattr(torch, "mm", machine.mm)
    precision.fast_bf16.cache_clear()
    assert precision.fast_bf16() is fast
    precision.fast_bf16.cache_clear()
    assert machine.calls >= 2 * precision.FEWEST


def test_a_rate_is_operations_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(0.001, 0.002, lambda call: False)
    monkeypatch.setattr(precision, "time", machine)
    monkeypatch.setattr(torch, "mm", machine.mm)
    assert precision.product_rate(torch.float32, 0.02, (10, 20, 30)) == pytest.approx(2 * 6000 / 0.002)
