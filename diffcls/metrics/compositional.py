"""Two images, two texts of the same words: which belongs to which."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffcls.support.errors import UsageError

Flags = NDArray[np.bool_]


def pair_scores(scores: ArrayLike) -> tuple[Flags, Flags, Flags]:
    """Text, image and group score of pairs of images with two texts each (Thrush et al. 2022).

    A pair counts in the text score if each image prefers its own text, in the image score if each
    text prefers its own image, in the group score if both hold; a tie is no preference. By chance
    that is 1/4, 1/4 and 1/6.

    Args:
        scores: (n, 2, 2) of image i with text j of each pair, higher is better, comparable across
            images.

    Returns:
        Three (n,) arrays of bool, in that order.

    Raises:
        UsageError: for another shape, or scores that are not finite.
    """
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 3 or not len(s) or s.shape[1:] != (2, 2) or not np.isfinite(s).all():
        raise UsageError("scores of pairs do not fit", given=s.shape, allowed="finite, (n, 2, 2)")
    text = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    image = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    return text, image, text & image
