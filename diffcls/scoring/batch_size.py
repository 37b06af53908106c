"""Batch size: the fastest one of a device, and the halves of a batch for which memory suffices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    from diffcls.models.denoiser import Denoiser

logger = logging.getLogger(__name__)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error reports that the device has no memory left."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory")
    )


class SingleRowError(ModelError):
    """Memory does not suffice for a batch of a single row."""


def halved(size: int, reason: str, unit: str = "evaluation") -> int:
    """Half of a batch size, after a batch of it had no memory; a warning is logged.

    Call it outside the ``except`` block: the error holds the activations of the pass that failed.

    Args:
        size: rows of the batch.
        reason: message of the error.
        unit: what a row is.

    Raises:
        SingleRowError: for a batch of a single row.
    """
    if size == 1:
        raise SingleRowError(
            f"out of memory for a single {unit}",
            given=reason.partition("\n")[0],
            todo="choose --dtype float16, a smaller --img-size or another device",
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    logger.warning("out of memory at batch size %d: continuing with %d", size, size // 2)
    return size // 2


class HasBatchSize(Protocol):
    """What runs batches of `batch_size` rows."""

    batch_size: int


def in_batches(owner: HasBatchSize, count: int, compute: Callable[[range], object]) -> None:
    """Call ``compute(rows)`` on consecutive batches of `count` rows, halved as memory requires.

    Args:
        owner: its batch size is the number of rows; it stays halved.
        count: number of rows.
        compute: computes some rows, or raises an error for lack of memory.

    Raises:
        SingleRowError: if memory does not suffice for one row.
    """
    first = 0
    while first < count:
        rows = range(first, min(first + owner.batch_size, count))
        try:
            compute(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        else:
            first = rows.stop
            continue
        owner.batch_size = halved(owner.batch_size, reason)


def in_single_precision(
    owner: HasBatchSize, denoiser: Denoiser, count: int, measure: Callable[[range], object]
) -> bool:
    """Call ``measure(rows)`` on batches of `count` rows while a model is in single precision.

    Its weights and activations are twice as large then: the batch is halved for these rows alone.

    Args:
        owner: its batch size is the number of rows; it is as before in the end.
        denoiser: the model.
        count: number of rows.
        measure: measures some rows, or raises an error for lack of memory.

    Returns:
        Whether memory sufficed for all rows; those before the first lack of it are measured.
    """
    size, first = owner.batch_size, 0
    try:
        with denoiser.float32():
            while first < count:
                # the batch size may have been halved since these rows were measured first
                rows = range(first, min(first + owner.batch_size, count))
                if _has_memory_for(measure, rows):
                    first = rows.stop
                elif owner.batch_size == 1:
                    return False
                else:
                    owner.batch_size //= 2
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False  # no memory for the weights
    finally:
        owner.batch_size = size
    return True


def _has_memory_for(measure: Callable[[range], object], rows: range) -> bool:
    try:
        measure(rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


class PartedBatch:
    """A batch of one shape, computed in parts of one shape once memory did not suffice for it.

    Every part is padded to the same number of rows, so a row's result does not depend on the other
    rows; in parts of another size, its last bits may differ.

    Args:
        unit: what a row is, for messages.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._rows: int | None = None

    def rows(self, size: int) -> int:
        """Rows of a part of a batch of `size` rows."""
        return size if self._rows is None else min(size, self._rows)

    def compute(self, function: Callable[..., Tensor], *columns: Any) -> Tensor:
        """``function(*columns)`` of B rows, in as many parts as memory requires.

        Args:
            function: columns of M rows -> (M, ...).
            columns: tensors (B, ...) or sequences of B.

        Raises:
            ModelError: if memory does not suffice for one row.
        """
        size = len(columns[0])
        while True:
            rows = self.rows(size)
            try:
                if rows == size:
                    return function(*columns)
                parts = [_part(columns, first, rows) for first in range(0, size, rows)]
                return torch.cat([function(*part) for part in parts])[:size]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            self._rows = halved(rows, reason, self._unit)


def _part(columns: Sequence[Any], first: int, rows: int) -> list[Any]:
    """Rows of all columns from `first`, padded with the last one."""
    chosen = [min(row, len(columns[0]) - 1) for row in range(first, first + rows)]
    return [c[chosen] if isinstance(c, Tensor) else [c[row] for row in chosen] for c in columns]


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
