"""Compositional metrics: text, image and group score of image–text pairs (Winoground)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffcls.support.errors import UsageError

Bools = NDArray[np.bool_]


def pair_scores(scores: ArrayLike) -> tuple[Bools, Bools, Bools]:
    """Text, image and group score of each pair: two images and their two texts.

        text   = s_00 > s_01  and  s_11 > s_10      each image prefers its own text
        image  = s_00 > s_10  and  s_11 > s_01      each text prefers its own image
        group  = text and image

    A tie is no preference. Random scores reach 1/4, 1/4 and 1/6. Source: Thrush et al. 2022
    (Winoground), section 4.

    Args:
        scores: (n, 2, 2) score of image i with text j of each pair, higher is better, comparable
            across images.

    Returns:
        text, image, group: (n,) bool each.

    Raises:
        UsageError: for another shape, or scores that are not finite.
    """
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 3 or not len(s) or s.shape[1:] != (2, 2) or not np.isfinite(s).all():
        raise UsageError(
            "invalid scores of pairs", given=s.shape, allowed="finite numbers of shape (n, 2, 2)"
        )
    text = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    image = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    return text, image, text & image
