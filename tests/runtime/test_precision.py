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


def processor(
    monkeypatch: pytest.MonkeyPatch, *, amx: bool = False, avx512_bf16: bool = False, machine: str = "x86_64"
) -> None:
    """A processor with these instructions for bf16."""
    for name in precision.ISA_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "machine", "fast"),
    [
        (True, True, "x86_64", True),
        (False, False, "AMD64", False),
        (False, True, "x86_64", None),
        (False, False, "aarch64", None),
    ],
)
def test_instructions_decide_where_they_can(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512_bf16: bool, machine: str, fast: bool | None
) -> None:
    processor(monkeypatch, amx=amx, avx512_bf16=avx512_bf16, machine=machine)
    for measured in (True, False):
        monkeypatch.setattr(precision, "_measured_fast", lambda found=measured: found)
        precision.fast_bf16.cache_clear()
        assert precision.fast_bf16() is (measured if fast is None else fast)
    precision.fast_bf16.cache_clear()


def test_a_limit_on_what_onednn_may_use_makes_it_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, amx=True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    monkeypatch.setattr(precision, "_measured_fast", lambda: False)
    precision.fast_bf16.cache_clear()
    assert precision.fast_bf16() is False
    precision.fast_bf16.cache_clear()


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
    processor(monkeypatch, avx512_bf16=True)
    precision.fast_bf16.cache_clear()
    assert precision.fast_bf16() is fast
    precision.fast_bf16.cache_clear()
    assert machine.calls >= 2 * precision.FEWEST


def test_a_rate_is_operations_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(0.001, 0.002, lambda call: False)
    monkeypatch.setattr(precision, "time", machine)
    monkeypatch.setattr(torch, "mm", machine.mm)
    assert precision.product_rate(torch.float32, 0.02, (10, 20, 30)) == pytest.approx(2 * 6000 / 0.002)
