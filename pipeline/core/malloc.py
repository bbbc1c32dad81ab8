"""The C library's allocator, told to keep what it has for the next batch."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc; mallopt(3)
_KEPT = 1 << 30  # bytes free at the heap's end, above which some go back
_MAPPED = 256 << 20  # bytes; a larger block is a mapping of its own, and goes back when it is freed


def keep_freed_memory() -> bool:
    """Whether it could be done. Every batch frees what the next one needs: as glibc comes, pixels and activations go back to
    the kernel in between, which then clears each page anew (measured: a seventh of the decoding time, a tenth of a small
    detector's forward pass). What the process holds is the most it ever needed at once, as before."""
    if any(name.startswith("MALLOC_") for name in os.environ):  # the user's own settings
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MAPPED) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
