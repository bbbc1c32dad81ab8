"""Make the C library's allocator keep freed memory for the next batch."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc; mallopt(3)
_TRIM_BYTES = 1 << 30  # free memory at the end of the heap that stays with the process
_MMAP_BYTES = 256 << 20  # a larger block is mapped alone and returned to the kernel when freed


def keep_freed_memory() -> bool:
    """Raise glibc's thresholds for returning memory to the kernel.

    Every batch frees what the next batch needs. With glibc's defaults, pixels and activations go
    back to the kernel in between, and the kernel clears each page again. Peak memory is unchanged.

    Returns:
        False where the user has set MALLOC_ variables or the C library is not glibc.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
