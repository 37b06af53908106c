"""Multi-label classification: average precision, F1, and the threshold of a validation set.

Pure functions of arrays; n is the number of images, L that of labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffcls.metrics.validation import floats
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64


def average_precision(present: ArrayLike, scores: ArrayLike) -> float:
    """Average precision of one label: the precisions at each gain of recall.

        AP = Σ_i (R_i − R_{i−1})·P_i

    over the distinct scores in descending order, R_i and P_i the recall and precision of the images
    that score at least as high (Manning et al. 2008, section 8.4; no interpolation).

    Args:
        present: (n,) whether the image has the label, as booleans or 0 and 1.
        scores: (n,) finite numbers, high where the label is likely.

    Raises:
        UsageError: for shapes that differ, values that are not finite, or no image with the label.
    """
    truth, s = _columns(np.asarray(present)[:, None], np.asarray(scores)[:, None])
    if not truth.any():
        raise UsageError("average precision is undefined", given="no image with the label")
    order = np.argsort(-s[:, 0], kind="stable")
    hits, ordered = np.cumsum(truth[order, 0]), s[order, 0]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    gain = np.diff(np.concatenate([[0], hits[last]])) / hits[-1]
    return float((gain * hits[last] / (last + 1)).sum())


def mean_average_precision(present: ArrayLike, scores: ArrayLike) -> float:
    """Mean of `average_precision` over the labels that some image has.

    Args:
        present, scores: (n, L), as for `average_precision`.

    Raises:
        UsageError: as `average_precision`; without any label present.
    """
    truth, s = _columns(present, scores)
    columns = np.flatnonzero(truth.any(axis=0))
    if not len(columns):
        raise UsageError("mean average precision is undefined", given="no label is present")
    return float(np.mean([average_precision(truth[:, k], s[:, k]) for k in columns]))


def f1_per_label(present: ArrayLike, scores: ArrayLike, threshold: float) -> Float64:
    """(L,) F1 = 2·TP / (2·TP + FP + FN) of each label; 0 where no image has or gets the label.

    Args:
        present, scores: (n, L), as for `average_precision`.
        threshold: an image gets the labels that score at least this.
    """
    truth, s = _columns(present, scores)
    assigned = s >= threshold
    agreed = 2.0 * (assigned & truth).sum(axis=0)
    total = assigned.sum(axis=0) + truth.sum(axis=0)
    return np.asarray(agreed / np.maximum(total, 1), dtype=np.float64)


def fit_threshold(present: ArrayLike, scores: ArrayLike) -> float:
    """The threshold of the highest mean F1 over labels, of validation images.

    One threshold serves all labels, so it also holds for labels that no validation image has. It
    lies midway between the scores that it separates; of equally good ones it is the highest.

    Args:
        present, scores: (n, L), as for `average_precision`.
    """
    truth, s = _columns(present, scores)
    values = np.unique(s)
    middles = (values[:-1] + values[1:]) / 2
    candidates = np.concatenate([values[:1], middles])
    # each label: images at or above each candidate, and those of them that have the label
    total = np.zeros(len(candidates))
    for k in np.flatnonzero(truth.any(axis=0)):
        assigned = len(s) - np.searchsorted(np.sort(s[:, k]), candidates)
        own = np.sort(s[truth[:, k], k])
        agreed = len(own) - np.searchsorted(own, candidates)
        total += 2 * agreed / (assigned + len(own))
    best = len(total) - 1 - int(np.argmax(total[::-1]))
    return float(candidates[best])


def _columns(present: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, Float64]:
    s, truth = floats("scores", scores, ndim=2), np.asarray(present)
    if truth.shape != s.shape or not np.isin(truth, (0, 1)).all() or not np.isfinite(s).all():
        raise UsageError(
            "labels and scores do not fit",
            given=(truth.shape, s.shape),
            allowed="booleans and finite scores of one shape (n, L)",
        )
    return truth.astype(bool), s
