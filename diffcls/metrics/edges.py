"""Agreement of two edge maps: boundary F1 with a tolerance (Martin, Fowlkes and Malik 2004)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffcls.support.errors import UsageError


def boundary_f1(found: ArrayLike, given: ArrayLike, tolerance: float = 1.0) -> float:
    """F1 of the edges of an image against given ones.

        F1 = 2·P·R/(P + R)

    The precision P is the share of the found edge pixels with a given one within the tolerance, the
    recall R the share of the given ones with a found one. Pixels are not matched one to one, as
    they are in the source: a thick line is not punished.

    Args:
        found, given: (H, W) whether a pixel is an edge.
        tolerance: largest distance of two pixels of one edge, in pixels, 0 or more.

    Returns:
        0 to 1; 1 without any edge in both, 0 without any in one of them.

    Raises:
        UsageError: for maps of other shapes, or a negative tolerance.
    """
    from scipy.ndimage import distance_transform_edt

    one, other = np.asarray(found, bool), np.asarray(given, bool)
    if one.ndim != 2 or one.shape != other.shape or not tolerance >= 0:
        raise UsageError(
            "edge maps of one shape and a tolerance of 0 or more are compared",
            given=f"{one.shape}, {other.shape}, {tolerance}",
        )
    if not one.any() or not other.any():
        return float(one.any() == other.any())
    precision = float((distance_transform_edt(~other)[one] <= tolerance).mean())
    recall = float((distance_transform_edt(~one)[other] <= tolerance).mean())
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
