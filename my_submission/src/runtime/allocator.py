"""Keep freed memory in the process, so that large tensors do not page-fault on every allocation (glibc).

By default glibc returns every freed block of more than 32 MB to the system. The system then has to find and clear each page of
the next tensor of that size, which takes longer than most computations with the tensor.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt, from malloc.h
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 128 << 10, _MMAP_MAX: 65536}
# return nothing below 2 GB, request 256 MB at a time, and never give a block a mapping of its own
_KEEPING = {_TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 256 << 20, _MMAP_MAX: 0}


def keep_freed_memory(keep: bool = True) -> bool:
    """Keep memory that this process frees and use it again, or restore glibc's default with keep=False.

    The process's peak memory stays about the same. Returns False, without an effect, if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    done = [library.mallopt(number, value) for number, value in (_KEEPING if keep else _DEFAULTS).items()]
    if not keep:
        library.malloc_trim(0)
    return all(done)
