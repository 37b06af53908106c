"""Accuracy of a classifier: top-k accuracy and mean per-class accuracy.

Pure functions of arrays: n is the number of images, K that of classes, and every fraction lies in
[0, 1]. Input that is empty, not finite or of the wrong shape raises UsageError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffcls.metrics.validation import indices, same_length
from diffcls.support.errors import UsageError


def top_k_accuracy(rankings: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Top-k accuracy: the fraction of images whose label is among the `k` best-ranked classes.

    Args:
        rankings: (n, K) class indices, best first; columns beyond the first k are not read.
        labels: (n,) class indices.
        k: 1 for the usual accuracy, 5 for top-5; at most the number of columns.

    Raises:
        UsageError: for empty input, shapes that differ, values that are no class index, a class
            ranked twice, or a k out of range.
    """
    ranked, truth = indices("rankings", rankings, ndim=2), indices("labels", labels)
    same_length("rankings", ranked, "labels", truth)
    if not 1 <= k <= ranked.shape[1]:
        raise UsageError(
            "k out of range", given=k, allowed=f"1 to {ranked.shape[1]}, the columns of rankings"
        )
    best = ranked[:, :k]
    if (np.diff(np.sort(best, axis=1), axis=1) == 0).any():
        raise UsageError(
            "a ranking contains a class twice", todo="rank every class once, best first"
        )
    return float((best == truth[:, None]).any(axis=1).mean())


def mean_per_class(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Mean per-class accuracy, also called balanced accuracy or macro recall.

    The accuracy is taken over the images of each class, then averaged over the classes; classes
    without an image in `labels` are left out.

    Args:
        predictions: (n,) predicted class indices.
        labels: (n,) class indices.

    Raises:
        UsageError: for empty input, lengths that differ, or values that are no class index.
    """
    predicted, truth = indices("predictions", predictions), indices("labels", labels)
    same_length("predictions", predicted, "labels", truth)
    _, class_of = np.unique(truth, return_inverse=True)
    right = np.bincount(class_of, weights=predicted == truth)
    return float((right / np.bincount(class_of)).mean())
