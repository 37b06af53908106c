"""Single-pass classifiers: the base of methods that process each image once, in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data.dataset import Item
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.errors import DataError
from diffcls.support.invariants import known

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.float32]
Score = Callable[["Tensor", Sequence[str]], "Tensor"]
"""Pixels (B, 3, H, W) and image ids (B,) -> scores (B, K), higher is better."""


class BatchMethod:
    """Scores images in batches of one shape, so results are independent of batch composition.

    Args:
        read: image -> pixels (3, H, W).
        prepare: returns the scoring function. It is called with the first image, so that a dry
            run or a finished run trains nothing.
        posterior_scale: see `diffcls.classifiers.base.Method`.
        evaluations: forward passes of a denoiser per image.
        batch_size: rows of a batch; it is computed in parts where memory does not suffice.
        single: context in which the scoring function computes in single precision, of a model in
            half precision; scores that are not finite are repeated in it.
    """

    def __init__(
        self,
        read: Callable[[Item], Pixels],
        prepare: Callable[[], Score],
        posterior_scale: float | None = 1.0,
        evaluations: int = 0,
        batch_size: int = 64,
        single: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.read, self._prepare = read, prepare
        self.posterior_scale, self.evaluations = posterior_scale, evaluations
        self.batch_size, self._single = batch_size, single

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """See `diffcls.classifiers.base.Method`."""
        prepared = self._prepare()
        score, repeat = self._in_parts(prepared), self._repeater(prepared)
        batch: list[tuple[Item, Pixels]] = []
        began = time.perf_counter()
        for item in items:
            try:
                batch.append((item, self.read(item)))
            except (DataError, OSError, ValueError) as error:
                yield ClassScores.failed(item.image_id, f"{error}")
            if len(batch) == self.batch_size:
                yield from self._results(score, repeat, batch, began)
                batch, began = [], time.perf_counter()
        if batch:
            yield from self._results(score, repeat, batch, began)

    def _in_parts(self, score: Score) -> Score:
        from diffcls.scoring.batch_size import PartedBatch

        parted = PartedBatch("image")

        def in_parts(pixels: Tensor, ids: Sequence[str]) -> Tensor:
            scores = parted.compute(score, pixels, ids)
            self.batch_size = parted.rows(self.batch_size)  # of the next batch
            return scores

        return in_parts

    def _repeater(self, score: Score) -> Score:
        """The scores in single precision, in parts of their own: it takes more memory."""
        from diffcls.scoring.batch_size import PartedBatch

        parted = PartedBatch("image")
        return lambda pixels, ids: parted.compute(score, pixels, ids)

    def _results(
        self, score: Score, repeat: Score, batch: list[tuple[Item, Pixels]], began: float
    ) -> list[ClassScores]:
        import torch

        items = [item for item, _ in batch]
        # padded with the last image
        filled = batch + batch[-1:] * (self.batch_size - len(batch))
        pixels = torch.from_numpy(np.stack([pixels for _, pixels in filled]))
        ids = [item.image_id for item, _ in filled]
        scores = score(pixels, ids).cpu().double().numpy()
        repetition = "" if self._single is None else ", in single precision too"
        if self._single is not None and not np.isfinite(scores).all():
            # of the rows that need it alone
            finite = np.isfinite(scores).all(axis=1)[:, None]
            repeated = self._repeated(repeat, pixels, ids)
            if repeated is None:
                repetition = ", and memory does not suffice for single precision"
            else:
                scores = np.where(finite, scores, repeated)
        share = (time.perf_counter() - began) / len(batch)
        pairs = zip(items, scores, strict=False)
        return [self._result(*pair, share, repetition) for pair in pairs]

    def _repeated(
        self, repeat: Score, pixels: Tensor, ids: Sequence[str]
    ) -> NDArray[np.float64] | None:
        """Scores (B, K) in single precision; None where memory does not suffice for it."""
        from diffcls.scoring.batch_size import SingleRowError, is_out_of_memory

        try:
            with known(self._single)():
                scores: NDArray[np.float64] = repeat(pixels, ids).cpu().double().numpy()
        except SingleRowError:
            return None
        except RuntimeError as error:  # the weights themselves are twice as large
            if not is_out_of_memory(error):
                raise
            return None
        return scores

    def _result(
        self, item: Item, scores: NDArray[np.float64], share: float, repetition: str
    ) -> ClassScores:
        if item.candidates:
            scores = scores[list(item.candidates)]
        if not np.isfinite(scores).all():
            failure = f"a score of {item.image_id} is not finite{repetition}"
            return ClassScores.failed(item.image_id, failure, share)
        ranking = np.argsort(-scores, kind="stable").astype(np.int64)
        return ClassScores(item.image_id, scores, ranking, self.evaluations, share)

    def seconds_per_batch(self) -> float:
        """0: the time is not predicted for single-pass methods."""
        return 0.0

    def check(self, items: Sequence[Item]) -> None:
        """Do nothing: a single-pass model declares no parameterization to check."""
