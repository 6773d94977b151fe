"""The number format of the frozen weights, and what else a result depends on: versions, threads, device."""

import math
import os
import platform
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import Tensor

from bitfit import __version__
from bitfit.backbone.architectures import architecture
from bitfit.backbone.device import CPU
from bitfit.errors import RequestError, nearest

Precision = Literal["auto", "fp32", "bf16"]
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORTH_IT = 1.3  # bf16 must multiply this many times faster than fp32
MEASURE_S = 0.04  # seconds for both formats together
FEWEST = 8  # products of each, where a few take all that time
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # what a user may forbid oneDNN to use of the processor
SHAPE = (1024, 384, 1536)  # rows, inner, columns


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
    """Does this processor multiply bf16 fast? Its instructions say it where they can; else it is measured, once."""
    known = _known_from_instructions()
    return _measured_fast() if known is None else known


def _known_from_instructions() -> bool | None:
    """With AMX it does, without any instructions for bf16 it does not; None where only a measurement tells.

    AVX512-BF16 alone makes bf16 products twice as fast as fp32 on some processors, and slower on others.
    """
    if not torch.backends.mkldnn.is_available():
        return False  # torch's own products of bf16 are slow
    limited = any(os.environ.get(name) for name in ISA_LIMITS)
    if limited or platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    # torch's own names for these are private, so a version may lack them.
    ask = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16")]
    amx, avx512_bf16 = (None if one is None else bool(one()) for one in ask)
    if amx:
        return True
    return False if (amx, avx512_bf16) == (False, False) else None


def _measured_fast() -> bool:
    """A run must find the same format each time, however busy the machine is. So the two take turns, and the best of
    each counts: other processes stop some of the products, never all."""
    products = {dtype: _product(dtype, SHAPE) for dtype in FORMATS.values()}
    took: dict[torch.dtype, list[float]] = {dtype: [] for dtype in products}
    start = time.perf_counter()
    while time.perf_counter() - start < MEASURE_S or len(took[torch.float32]) < FEWEST:
        for dtype, product in products.items():
            took[dtype].append(_seconds(product))
    return min(took[torch.float32]) > WORTH_IT * min(took[torch.bfloat16])


def product_rate(dtype: torch.dtype, seconds: float, shape: tuple[int, int, int] = SHAPE) -> float:
    """Floating-point operations a second that matrix products of this format and shape reach here."""
    product, rounds, spent = _product(dtype, shape), 0, 0.0
    while spent < seconds or rounds == 0:
        spent += _seconds(product)
        rounds += 1
    return 2.0 * math.prod(shape) * rounds / spent


def _product(dtype: torch.dtype, shape: tuple[int, int, int]) -> Callable[[], Tensor]:
    """A matrix product whose kernel is ready."""
    rows, inner, columns = shape
    product = partial(torch.mm, torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype).t())
    product()
    return product


def _seconds(product: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    product()
    return time.perf_counter() - start


def versions() -> dict[str, str]:
    """Versions of the packages that decide what is computed."""
    return {"bitfit": __version__, **{name: version(name) for name in ("torch", "transformers")}}


def environment() -> dict[str, Any]:
    """What a figure depends on beside its settings."""
    return {**versions(), "python": platform.python_version(), "threads": torch.get_num_threads()}


def surroundings(compute: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What may change a result's last bits beside the request."""
    formats = {form: name for name, form in FORMATS.items()}
    return {**versions(), "threads": torch.get_num_threads(), "compute": formats[compute], "device": device.type}
