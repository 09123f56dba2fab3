"""Where a CPU's time goes that nobody sees: large tensors whose memory is fetched from the system anew each time.

glibc gives every block of more than 32 MB back to the system when it is freed. The next tensor of that size begins with
pages that the system has to find and to clear, one by one, which takes longer than most of what is computed with them.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt's numbers, from malloc.h
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 128 << 10, _MMAP_MAX: 65536}
# give nothing back below 2 GB, take 256 MB at a time, and let no block be so large that it is a mapping of its own
_KEEPING = {_TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 256 << 20, _MMAP_MAX: 0}


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process keep what it frees, to use it again, or not. The peak of its memory stays about what it was.

    Returns whether that could be asked for: False where the C library is not glibc.
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
