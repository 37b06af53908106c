"""Return of freed memory to the system, on which peak memory depends after a large intermediate."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any


def release_free_memory() -> None:
    """Return the heap's free pages to the system, where the C library can do it (glibc).

    Blocks that are in use between free ones keep the heap from shrinking by itself. Then buffers of
    another size are allocated beside the free ones, and memory grows by the sum of both.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    """The function of the C library that is loaded; None where it has none, as musl and macOS."""
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no such library
        return None
