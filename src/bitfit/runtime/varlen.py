"""Attention by torch's kernel for sequences of many lengths, where a GPU has it; knows nothing of dropout."""

from collections.abc import Callable
from functools import cache
from inspect import signature

import torch
from torch import Tensor
from torch.nn import functional

from bitfit.runtime.layout import Layout

WIDEST = 128  # numbers of a head: more are not taken by every GPU, on the way back
OLDEST = (8, 0)  # a GPU's generation
WANTED = {"scale", "window_size", "enable_gqa"}  # the kernel's first versions had not all of them


def fits(q: Tensor, v: Tensor) -> bool:
    """Does the kernel take these? It needs a GPU and 16-bit numbers."""
    alike = v.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] == v.shape[-1]
    return not q.is_cpu and alike and q.shape[-1] % 8 == 0 and q.shape[-1] <= WIDEST and there(q.device)


def attend(
    parts: tuple[Tensor, Tensor, Tensor], layout: Layout, scale: float, sight: tuple[int | None, bool]
) -> Tensor:
    """Each sequence over itself: q, k, v (tokens, heads, size), of which k and v may have fewer heads.

    `sight`: a token sees others that are fewer than so many places away, None for all; and none behind it if True.
    """
    # Filler belongs to no sequence: the kernel would leave whatever memory held in its place.
    q, k, v = (part[: layout.starts[-1]] for part in parts)
    window, causal = sight
    side = -1 if window is None else window - 1
    longest = max(layout.lengths)
    out = kernel()(
        q,
        k,
        v,
        layout.cuts,
        layout.cuts,
        longest,
        longest,
        scale=scale,
        window_size=(side, 0 if causal else side),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return functional.pad(out, (0, 0, 0, 0, 0, layout.filler))


@cache
def there(device: torch.device) -> bool:
    """Has this torch the kernel, and can this device run it?"""
    try:
        known = set(signature(kernel()).parameters)
    except ImportError:
        return False
    return known >= WANTED and torch.cuda.get_device_capability(device) >= OLDEST


def kernel() -> Callable[..., Tensor]:
    """torch's, for version 2.10 and later."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn  # type: ignore[return-value]
