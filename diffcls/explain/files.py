"""Files of evidence: the overlay as PNG, the arrays as NPZ."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.support.errors import UsageError
from diffcls.support.files import write_bytes
from diffcls.support.paths import expand
from diffcls.support.types import Float64

FOR_RGB, AGAINST_RGB = (0, 114, 178), (213, 94, 0)
"""Blue and vermillion of Okabe and Ito (2008), which people of all kinds of vision tell apart."""
Z_SHOWN, Z_CERTAIN = 1.96, 3.0
"""Ratios of map to standard error from which evidence is shown, and from which it is certain."""
MAX_OPACITY = 0.75
MIN_SIDE_PIXELS = 384
"""Small images are enlarged to about this side by a whole factor."""


def save(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write the overlay (``.png``) or the arrays (``.npz``) of evidence, atomically.

    Args:
        path: the file.
        arrays: at least ``map``, ``stderr`` (H, W) and ``pixels`` (H, W, 3).

    Raises:
        UsageError: for another ending, or a folder that cannot be written.
    """
    path = expand(path)
    data = io.BytesIO()
    if path.suffix.lower() == ".png":
        from PIL import Image

        shown = overlay(*(np.asarray(arrays[name]) for name in ("map", "stderr", "pixels")))
        Image.fromarray(shown).save(data, format="PNG")
    elif path.suffix.lower() == ".npz":
        np.savez_compressed(data, **dict(arrays))  # type: ignore[arg-type]
    else:
        raise UsageError("ending of the file is unknown", given=str(path), allowed=".png or .npz")
    write_bytes(path, data.getvalue())


def overlay(values: Float64, stderr: Float64, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image in gray, tinted blue where it favours the class, vermillion where the other.

    Positions within 1.96 standard errors of zero stay gray.

    Args:
        values, stderr: (H, W) map of evidence, with its standard errors.
        pixels: (H, W, 3) the image.

    Returns:
        (H', W', 3), enlarged by a whole factor.
    """
    from PIL import Image

    strength = opacity(values, stderr)[..., None]
    gray = pixels.astype(np.float64).mean(axis=2, keepdims=True)
    tint = np.where((values > 0)[..., None], FOR_RGB, AGAINST_RGB)
    mixed = np.rint(gray * (1 - strength) + tint * strength).astype(np.uint8)
    image = Image.fromarray(mixed)
    factor = max(1, round(MIN_SIDE_PIXELS / max(image.size)))
    size = (image.width * factor, image.height * factor)
    return np.asarray(image.resize(size, Image.Resampling.NEAREST))


def opacity(values: Float64, stderr: Float64) -> Float64:
    """Opacity of each position: its share of the largest value, times how certain its sign is.

    The certainty rises from 0 at 1.96 standard errors to 1 at 3, so that noise is not shown.

    Args:
        values: a map.
        stderr: its standard errors; a position without an error is shown if it differs from zero.
    """
    size = np.abs(values)
    z = np.divide(size, stderr, out=np.where(size > 0, np.inf, 0.0), where=stderr > 0)
    certainty = ((z - Z_SHOWN) / (Z_CERTAIN - Z_SHOWN)).clip(0, 1)
    shown: Float64 = MAX_OPACITY * certainty * size / max(float(size.max()), np.finfo(float).tiny)
    return shown
