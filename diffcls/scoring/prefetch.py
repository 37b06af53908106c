"""Prefetch of images: a thread reads the next batch while the current one is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffcls.data.dataset import Item
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.errors import DataError

Pixels = NDArray[np.float32]


@dataclass
class ReadBatch:
    """Images that were read together.

    Args:
        items, pixels: the images that could be read, each (3, H, W).
        failed: the failures of the others.
    """

    items: list[Item] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)
    failed: list[ClassScores] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.items or self.failed)


class Prefetcher:
    """Reads a stream of images in a thread of its own, one batch ahead.

    Args:
        items: the stream; at most one batch more than was taken is consumed.
        read: image -> pixels.
        size: images per batch, not counting those that cannot be read.
    """

    def __init__(self, items: Iterator[Item], read: Callable[[Item], Pixels], size: int) -> None:
        self._items, self._read, self._size = items, read, size
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="diffcls-prefetch")
        self._ahead: Future[ReadBatch] | None = None

    def take(self) -> ReadBatch:
        """The next batch; empty at the end of the stream."""
        batch = self._ahead.result() if self._ahead else self._next()
        self._ahead = self._pool.submit(self._next) if batch else None
        return batch

    def close(self) -> None:
        """Discard the batch that was read ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> ReadBatch:
        batch = ReadBatch()
        for item in self._items:
            try:
                batch.pixels.append(self._read(item))
                batch.items.append(item)
            except (DataError, OSError, ValueError) as error:
                batch.failed.append(ClassScores.failed(item.image_id, f"{error}"))
            if self._size in (len(batch.items), len(batch.failed)):
                break
        return batch
