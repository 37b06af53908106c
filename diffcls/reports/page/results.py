"""Results of one run as arrays, and the figures of its section; pure functions of records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffcls.metrics.calibration import posterior
from diffcls.metrics.statistics import wilson_interval
from diffcls.runs.comparable import Results, class_names, results_of
from diffcls.runs.record import Record
from diffcls.runs.stored import StoredRun
from diffcls.support.types import Float64, Int64

MAX_MATRIX_CLASSES = 30
"""Classes up to which the whole confusion matrix is shown."""


@dataclass(frozen=True)
class RunResults:
    """A run with its scored images.

    Args:
        run: the run.
        records: (n,) records with scores, by image id.
        failed: records of images with an error.
    """

    run: StoredRun
    records: Sequence[Record]
    failed: Sequence[Record]

    @cached_property
    def labels(self) -> Int64:
        """(n,) class indices; of an image's own candidates where it has some."""
        return np.array([record.label for record in self.records], dtype=np.int64)

    @cached_property
    def answers(self) -> Int64:
        """(n,) best class of each image."""
        return np.array([record.ranking[0] for record in self.records], dtype=np.int64)

    @cached_property
    def evaluations(self) -> Int64:
        """(n,) forward passes per image."""
        return np.array([record.evaluations for record in self.records], dtype=np.int64)

    @property
    def n_classes(self) -> int:
        """Number of classes that each image was classified among; 0 without a scored image."""
        return len(self.records[0].scores) if self.records else 0

    @cached_property
    def names(self) -> Sequence[str]:
        """(K,) names of the classes; empty where each image has candidates of its own."""
        names = class_names(self.run)
        return tuple(map(str, names)) if len(names) == self.n_classes else ()

    @cached_property
    def scores(self) -> Float64:
        """(n, K) scores, −inf for a class that was never scored."""
        rows = [[-math.inf if s is None else s for s in record.scores] for record in self.records]
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.n_classes)

    @cached_property
    def probabilities(self) -> Float64 | None:
        """(n, K) posterior; None where scores are no log-likelihoods, or an image has none."""
        scale = self.run.posterior_scale
        if scale is None or not self.records or not (self.scores.max(axis=1) > -math.inf).all():
            return None
        return posterior(self.scores, scale)

    @property
    def outcomes(self) -> Results:
        """The results as comparisons need them, without scores."""
        return results_of(self.run, [*self.records, *self.failed])

    def name_of(self, k: int) -> str:
        """Name of a class; ``candidate K`` where each image has candidates of its own."""
        return self.names[k] if self.names else f"candidate {k + 1}"


def read_run(run: StoredRun) -> RunResults:
    """The results of a stored run.

    Raises:
        RecordError: for records that cannot be read.
    """
    records = run.records()
    scored = [record for record in records if record.error is None]
    return RunResults(run, scored, [record for record in records if record.error is not None])


# ---- accuracy per class and confusion --------------------------------------------------------


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy on the images of one class: `correct` of `n`, with Wilson's interval at 95 %."""

    index: int
    n: int
    correct: int
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """Fraction of correct images."""
        return self.correct / self.n


def confusion(labels: Int64, answers: Int64, n_classes: int) -> Int64:
    """(K, K) number of images by label (row) and answer (column)."""
    cells = np.bincount(labels * n_classes + answers, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes)


def confused_pairs(matrix: Int64) -> list[tuple[int, int, int]]:
    """(label, answer, images) of all wrong answers, the most frequent first."""
    wrong = matrix - np.diag(np.diag(matrix))
    rows, columns = np.nonzero(wrong)
    pairs = [(int(i), int(j), int(wrong[i, j])) for i, j in zip(rows, columns, strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def accuracy_per_class(matrix: Int64) -> list[ClassAccuracy]:
    """Accuracy of each class with images, by its index."""
    classes = []
    for k, row in enumerate(matrix):
        n, correct = int(row.sum()), int(row[k])
        if n:
            classes.append(ClassAccuracy(k, n, correct, *wilson_interval(correct, n)))
    return classes


# ---- evaluations -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Settled:
    """Images that a search finished within a number of evaluations.

    Args:
        evaluations: (m,) distinct numbers of evaluations, ascending.
        finished: (m,) fraction of all images finished with at most as many.
        correct: (m,) fraction of all images that are finished and correct; ends at the accuracy.
    """

    evaluations: Int64
    finished: Float64
    correct: Float64


def settled(evaluations: Int64, correct: Float64) -> Settled:
    """Accuracy against evaluations: what is finished, and correct, within each number of them."""
    values, positions = np.unique(evaluations, return_inverse=True)
    counts = np.bincount(positions, minlength=len(values))
    right = np.bincount(positions, weights=correct, minlength=len(values))
    n = len(evaluations)
    return Settled(values, np.cumsum(counts) / n, np.cumsum(right) / n)


@dataclass(frozen=True)
class Band:
    """Images with a similar number of evaluations, `low` to `high`, and their accuracy."""

    low: int
    high: int
    n: int
    correct: int
    ci_low: float
    ci_high: float


def bands(evaluations: Int64, correct: Int64, count: int = 4) -> list[Band]:
    """Accuracy of images in up to `count` bands of about equally many, by evaluations.

    Images with the same number are never split between bands.
    """
    limits = np.unique(np.quantile(evaluations, np.linspace(0, 1, count + 1)[1:], method="higher"))
    found, below = [], -1
    for limit in limits:
        chosen = (evaluations > below) & (evaluations <= limit)
        n, right = int(chosen.sum()), int(correct[chosen].sum())
        low, high = int(evaluations[chosen].min()), int(evaluations[chosen].max())
        found.append(Band(low, high, n, right, *wilson_interval(right, n)))
        below = limit
    return found
