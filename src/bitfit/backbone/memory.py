"""Keeps freed memory inside the process, so that a training step does not ask the system for it again.

Each step frees and takes the same large blocks. The C library's allocator gives large blocks back at once and then
pays for every page anew: gelu, additions and products of a step ran 2 to 15 times slower for it. Only glibc has
this switch; elsewhere nothing is done. Knows nothing of tensors.
"""

import ctypes
import platform
from functools import cache

import torch

from bitfit.backbone.device import CPU

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # numbers of glibc's malloc.h
TOP_PAD = 64 << 20  # bytes taken at once when the heap grows
NEVER = 2**31 - 1


@cache
def keep_freed_memory(device: torch.device = CPU) -> bool:
    """Tell the allocator to keep what is freed; True if it listened. Done once for the process, and never for a GPU:
    what it frees is its own allocator's."""
    if device.type != "cpu":
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
