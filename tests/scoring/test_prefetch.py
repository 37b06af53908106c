"""Prefetch: images are read in order, one batch ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from diffcls.data.dataset import Item
from diffcls.scoring.prefetch import Prefetcher
from diffcls.support.errors import DataError


def pixels(item: Item) -> Any:
    if item.label == 1:
        raise DataError(f"cannot read {item.image_id}")
    return np.full((3, 2, 2), item.label, np.float32)


def stream(count: int, taken: list[str], bad: Callable[[int], bool] = lambda i: False) -> Iterator:
    for i in range(count):
        taken.append(f"test/{i}")
        yield Item(f"test/{i}", int(bad(i)), lambda: None)


def test_all_images_come_in_order_and_failures_are_listed() -> None:
    prefetcher = Prefetcher(stream(11, [], lambda i: i % 3 == 0), pixels, 3)
    batches = []
    while batch := prefetcher.take():
        batches.append(batch)
    prefetcher.close()
    read = [item.image_id for batch in batches for item in batch.items]
    failed = [answer.image_id for batch in batches for answer in batch.failed]
    assert read == [f"test/{i}" for i in range(11) if i % 3]
    assert failed == [f"test/{i}" for i in range(0, 11, 3)]
    assert all(len(batch.items) <= 3 for batch in batches)
    assert not prefetcher.take()


def test_prefetch_is_one_batch_ahead_and_no_further() -> None:
    taken: list[str] = []
    prefetcher = Prefetcher(stream(100, taken), pixels, 4)
    prefetcher.take()
    prefetcher.close()  # waits for the batch being read
    assert len(taken) <= 8


def test_next_batch_is_read_while_the_previous_one_is_scored() -> None:
    reading = threading.Event()

    def slow(item: Item) -> Any:
        if item.image_id == "test/2":
            reading.set()
        return pixels(item)

    prefetcher = Prefetcher(stream(4, []), slow, 2)
    first = prefetcher.take()
    # the second batch has not been requested
    assert reading.wait(timeout=10) and len(first.items) == 2
    prefetcher.close()


def test_an_error_of_the_stream_reaches_the_caller() -> None:
    def broken() -> Iterator[Item]:
        yield Item("test/0", 0, lambda: None)
        raise KeyError("the data set is gone")

    prefetcher = Prefetcher(broken(), pixels, 1)
    assert prefetcher.take().items
    with pytest.raises(KeyError, match="the data set is gone"):
        prefetcher.take()
    prefetcher.close()
