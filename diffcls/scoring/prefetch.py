"""Images read one batch ahead of their scoring, so that a device never waits for a disk."""

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
class Read:
    """Images that were read together.

    Args:
        items, pixels: those that could be read, each (3, H, W).
        failed: the answers for the others.
    """

    items: list[Item] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)
    failed: list[ClassScores] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.items or self.failed)


class Reader:
    """Reads a stream of images in a thread of its own, one batch ahead.

    Args:
        items: the stream; taken from as images are read, a batch more than was asked for at most.
        read: opens an image.
        size: images a batch, not counting those that cannot be read.
    """

    def __init__(self, items: Iterator[Item], read: Callable[[Item], Pixels], size: int) -> None:
        self._items, self._read, self._size = items, read, size
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="diffcls-reader")
        self._ahead: Future[Read] | None = None

    def take(self) -> Read:
        """The next batch; empty at the end of the stream."""
        batch = self._ahead.result() if self._ahead else self._next()
        self._ahead = self._pool.submit(self._next) if batch else None
        return batch

    def close(self) -> None:
        """Give up what was read ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> Read:
        batch = Read()
        for item in self._items:
            try:
                batch.pixels.append(self._read(item))
                batch.items.append(item)
            except (DataError, OSError, ValueError) as error:
                batch.failed.append(ClassScores.failed(item.image_id, f"{error}"))
            if self._size in (len(batch.items), len(batch.failed)):
                break
        return batch
