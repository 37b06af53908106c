"""Measurements for a learned screen: errors and features of many images, in full batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.models.denoiser import Conditioning
from diffcls.scoring.batch_size import in_batches, in_single_precision
from diffcls.search.embeddings import Points
from diffcls.search.screening import EVALUATIONS_PER_GRADIENT_PROBE
from diffcls.support.types import Int64

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MeanProbes:
    """Probes of N images at the mean prompt.

    Args:
        first_order: (N, D, K) first-order errors of all classes.
        features: (N, D·F) features of the network on all probed draws.
    """

    first_order: Floats
    features: Floats

    @property
    def at_mean(self) -> Floats:
        """(N, D) errors at the mean prompt: the mean of a linear expansion around it."""
        mean: Floats = self.first_order.mean(axis=2, dtype=np.float64).astype(np.float32)
        return mean


class ScreenMeasurement:
    """Measures what a learned screen is fitted on.

    Args:
        method: the classifier, for its model, classes and draws.
        on_evaluations: called with the number of evaluations of each batch.

    Attributes:
        method: the classifier.
        evaluations: their number so far.
    """

    def __init__(
        self, method: DiffusionMethod, on_evaluations: Callable[[int], object] = lambda count: None
    ) -> None:
        self.method, self._scorer = method, method.scorer
        self._on_evaluations = on_evaluations
        self.evaluations = 0
        prompts, cond = method.prompts, method.candidate_conditioning
        self._points = Points(prompts, cond)
        self._every = tuple(range(prompts.n_classes))
        # one row for each class, its mean embedding
        self._classes = (
            cond
            if len(prompts) == prompts.n_classes
            else self._points.at([(k,) for k in self._every])
        )

    def latents(self, items: Sequence[Item]) -> Tensor:
        """(N, C, h, w) images as the denoiser receives them, encoded in batches of one shape."""
        size, parts = self.method.encode_batch, []
        for first in range(0, len(items), size):
            pixels = [self.method.pixels(item.open()) for item in items[first : first + size]]
            parts.append(self.method.encode(pixels).cpu())
        return torch.cat(parts)

    def at_mean(self, x0: Tensor, draws: Sequence[int]) -> MeanProbes:
        """Probes of images (N, C, h, w) at the mean of all classes, on D draws."""
        classes, count = self.method.prompts.n_classes, len(draws)
        first_order = np.empty((len(x0) * count, classes), np.float32)
        features: list[Floats] = []

        def probe(rows: Int64) -> Booleans:
            at = self._points.at([self._every] * len(rows))
            flat = [draws[row % count] for row in rows]
            errors, gradients, read = self._scorer.gradients_and_features(
                x0[rows // count], at, flat
            )
            first_order[rows] = self._points.first_order(errors, gradients, at).cpu().numpy()
            if not features:
                features.append(np.empty((len(first_order), read.shape[1]), np.float32))
            features[0][rows] = read.cpu().numpy()
            self.count(EVALUATIONS_PER_GRADIENT_PROBE * len(rows))
            return finite_rows(first_order[rows], features[0][rows])

        self._in_batches(len(x0) * count, probe)
        # (N·D, K) -> (N, D, K), (N·D, F) -> (N, D·F)
        return MeanProbes(
            first_order.reshape(len(x0), count, classes), features[0].reshape(len(x0), -1)
        )

    def errors(self, x0: Tensor, classes: Sequence[Int64], draws: Sequence[int]) -> list[Floats]:
        """Errors of some classes of each image.

        Args:
            x0: (N, C, h, w).
            classes: N times (S,), classes of each image, their number may differ.
            draws: D draws.

        Returns:
            N times (S, D); a value that is not finite is so in single precision, too, or memory
            does not suffice for that.
        """
        sizes = [len(some) for some in classes]
        image = np.repeat(np.arange(len(x0)), sizes)
        triples = np.stack([image, np.concatenate(classes)], axis=1).repeat(len(draws), axis=0)
        column = np.tile(np.array(draws), sum(sizes))
        flat = np.empty(len(triples), np.float32)

        def measure(rows: Int64) -> Booleans:
            at = self._rows(triples[rows, 1])
            errors = self._scorer.errors_at(x0[triples[rows, 0]], at, column[rows].tolist())
            flat[rows] = errors.cpu().numpy()
            self.count(len(rows))
            return finite_rows(flat[rows])

        self._in_batches(len(triples), measure)
        # (Σ S·D,) -> N times (S, D)
        return [
            part.reshape(-1, len(draws))
            for part in np.split(flat, np.cumsum(sizes)[:-1] * len(draws))
        ]

    def _in_batches(self, count: int, measure: Callable[[Int64], Booleans]) -> None:
        """Measure `count` rows; those that are not finite are repeated once in single precision.

        Rows for which memory does not suffice then keep their values.

        Args:
            count: number of rows.
            measure: measures some rows, and tells which of them are finite.
        """
        bad: list[int] = []

        def first(batch: range) -> None:
            rows = np.array(batch)
            bad.extend(rows[~measure(rows)].tolist())

        in_batches(self.method, count, first)
        denoiser = self.method.denoiser
        if bad and denoiser.dtype != torch.float32:
            left = np.array(bad)
            in_single_precision(
                self.method, denoiser, len(left), lambda batch: measure(left[batch])
            )

    def _rows(self, classes: Int64) -> Conditioning:
        device = next(iter(self._classes.values())).device
        return self._classes.rows(torch.from_numpy(classes).to(device))

    def count(self, evaluations: int) -> None:
        """Count evaluations, also those that the classifier itself makes."""
        self.evaluations += evaluations
        self._on_evaluations(evaluations)


def finite_rows(*arrays: Floats) -> Booleans:
    """(N,) whether all values of each row are finite, of arrays (N, ...)."""
    finite = [np.isfinite(array).reshape(len(array), -1).all(axis=1) for array in arrays]
    whole: Booleans = np.logical_and.reduce(finite)
    return whole
