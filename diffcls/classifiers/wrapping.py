"""Base of classifiers that change the scores of another one, and leave its batches to it."""

from __future__ import annotations

from diffcls.classifiers.diffusion import DiffusionMethod


class WrappingMethod:
    """The part of `diffcls.classifiers.base.Method` that concerns batches.

    Args:
        method: the classifier whose scores are changed.
    """

    def __init__(self, method: DiffusionMethod) -> None:
        self.method = method

    @property
    def batch_size(self) -> int:
        """Rows of every forward pass of the denoiser."""
        return self.method.batch_size

    @batch_size.setter
    def batch_size(self, rows: int) -> None:
        self.method.batch_size = rows

    def seconds_per_batch(self) -> float:
        """See `diffcls.classifiers.base.Method`."""
        return self.method.seconds_per_batch()
