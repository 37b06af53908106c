"""Batch size: the fastest one of a device, and recognition of errors for lack of memory."""

from __future__ import annotations

from collections.abc import Callable

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error reports that the device has no memory left."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory")
    )


def largest_worthwhile(
    seconds: Callable[[int], float], start: int = 16, most: int = 1024, gain: float = 0.05
) -> int:
    """Rows of a batch, doubled while rows per second grow by `gain` and memory suffices.

    Args:
        seconds: rows -> time of one batch; may raise an error that `is_out_of_memory` recognises.
        start, most: first and last size tried; if memory does not suffice for the first, it is
            halved until it does.
        gain: smallest relative growth of rows per second that is worth twice the memory.

    Raises:
        RuntimeError: if memory does not suffice for one row, or for any other error of `seconds`.
    """
    size, best, best_rate = start, 0, 0.0
    while size <= most:
        try:
            rate = size / seconds(size)
        except RuntimeError as error:
            if not is_out_of_memory(error) or (size == 1 and not best):
                raise
            if best:
                break
            size, most = size // 2, size // 2
            continue
        if rate < (1 + gain) * best_rate:
            break
        best, best_rate, size = size, rate, 2 * size
    return best
