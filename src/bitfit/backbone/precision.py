"""Which number format the frozen weights are kept in: asked for, or found by measuring or asking the device."""

import time
from functools import cache
from statistics import median
from typing import Literal

import torch

from bitfit.backbone.architectures import architecture
from bitfit.backbone.device import CPU
from bitfit.errors import RequestError, nearest

Precision = Literal["auto", "fp32", "bf16"]
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORTH_IT = 1.3  # bf16 must multiply this many times faster than fp32
MEASURE_S = 0.02  # seconds for each of the two formats
FEWEST = 5  # products, where a few take all that time


def compute_format(precision: Precision, device: torch.device = CPU) -> torch.dtype:
    """The format of frozen weights and of what flows between layers."""
    if precision == "auto":
        fast = fast_bf16() if device.type == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if precision not in FORMATS:
        raise RequestError(f"Unknown precision '{precision}'. {nearest(precision, ['auto', *FORMATS])}")
    return FORMATS[precision]


def trusted(precision: Precision, model_type: str) -> Precision:
    """What `auto` means for an architecture: code that nobody listed may mix formats, so it gets fp32."""
    return "fp32" if precision == "auto" and architecture(model_type) is None else precision


@cache
def fast_bf16() -> bool:
    """Does this processor multiply bf16 fast? It is measured, once."""
    return product_rate(torch.bfloat16) > WORTH_IT * product_rate(torch.float32)


def product_rate(
    dtype: torch.dtype, seconds: float = MEASURE_S, shape: tuple[int, int, int] = (1024, 384, 1536)
) -> float:
    """Floating-point operations a second that matrix products of this format and shape usually reach here.

    The median: other processes may stop some of the products, and a run must find the same format each time.
    """
    rows, inner, columns = shape
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
    torch.nn.functional.linear(left, right)  # the first one prepares the kernel
    took: list[float] = []
    start = now = time.perf_counter()
    while now - start < seconds or len(took) < FEWEST:
        torch.nn.functional.linear(left, right)
        now, before = time.perf_counter(), now
        took.append(now - before)
    return 2.0 * rows * inner * columns / median(took)
