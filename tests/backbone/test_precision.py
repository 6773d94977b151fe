"""The number format that is found by measuring: the same however busy the machine is."""

import pytest
import torch
from torch import Tensor

from bitfit.backbone import precision


class Clock:
    """Time that passes in matrix products alone: a fixed time for each format, and sometimes a stop."""

    def __init__(self, stops: set[int]) -> None:
        self.now, self.calls, self.stops = 0.0, 0, stops

    def perf_counter(self) -> float:
        return self.now

    def linear(self, left: Tensor, right: Tensor) -> None:
        del right
        self.calls += 1
        self.now += 0.0004 if left.dtype == torch.bfloat16 else 0.003
        self.now += 0.1 if self.calls in self.stops else 0.0


@pytest.mark.parametrize("stops", [set(), {3}, {2, 4}, {30}], ids=str)
def test_another_process_does_not_decide_the_format(monkeypatch: pytest.MonkeyPatch, stops: set[int]) -> None:
    clock = Clock(stops)
    monkeypatch.setattr(precision, "time", clock)
    monkeypatch.setattr(torch.nn.functional, "linear", clock.linear)
    rates = [precision.product_rate(dtype) for dtype in (torch.bfloat16, torch.float32)]
    assert rates[0] / rates[1] == pytest.approx(0.003 / 0.0004)


def test_a_slow_processor_is_measured_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(set(range(1, 100)))
    monkeypatch.setattr(precision, "time", clock)
    monkeypatch.setattr(torch.nn.functional, "linear", clock.linear)
    precision.product_rate(torch.float32)
    assert clock.calls == 1 + precision.FEWEST
