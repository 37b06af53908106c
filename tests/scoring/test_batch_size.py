"""Batch size: grows while rows per second grow and memory suffices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from diffcls.scoring.batch_size import largest_worthwhile


def device(memory: int, saturates_at: int) -> Callable[[int], float]:
    """Time of a batch on a device with memory for `memory` rows, saturated at `saturates_at`."""

    def seconds(rows: int) -> float:
        if rows > memory:
            raise torch.OutOfMemoryError("out of memory")
        return max(rows, saturates_at) / 1000

    return seconds


@pytest.mark.parametrize(
    ("memory", "saturates_at", "expected"),
    [
        (10_000, 64, 64),
        (40, 10_000, 32),
        (10_000, 1, 16),
        (10_000, 10_000, 1024),
        (11, 10_000, 8),
        (1, 10_000, 1),
    ],
)
def test_batch_grows_while_rate_and_memory_allow(
    memory: int, saturates_at: int, expected: int
) -> None:
    assert largest_worthwhile(device(memory, saturates_at)) == expected


def test_memory_for_no_row_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        largest_worthwhile(device(0, 64))
