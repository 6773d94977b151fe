"""Keeps freed memory in the process when asked to, and recognizes running out of memory.

Each step frees and takes the same large blocks. The C library's allocator gives large blocks back at once and then
pays for every page anew: gelu, additions and products of a step ran 2 to 15 times slower for it. Only glibc has
this switch; elsewhere nothing is done.
"""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # numbers of glibc's malloc.h
TOP_PAD = 64 << 20  # bytes taken at once when the heap grows
NEVER = 2**31 - 1
# The last is what oneDNN says: that it makes nothing of sizes which it took before has no other cause.
WORDS = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "could not create a primitive")


@cache
def keep_freed_memory() -> bool:
    """Tell the C library's allocator to keep what is freed, for this whole process and for good; True if it listened.

    Training and answering on a processor run faster for it, but the process never gets smaller: the command line does
    it, since its process is bitfit's alone, and the library leaves it to whoever owns the process.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)


def ran_out(error: BaseException) -> bool:
    """Does this error say that memory could not be had? torch's allocator for the CPU has no type of its own."""
    import torch  # here, since the command line keeps memory before it knows whether torch is needed

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
