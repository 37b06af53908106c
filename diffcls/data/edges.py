"""Edge maps of images, computed by OpenCV: one table row for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.support.errors import UsageError

Bytes = NDArray[np.uint8]
CANNY_THRESHOLDS = (100, 200)
"""Gradients, as OpenCV sums them, from which on a pixel may be an edge, and is one: those of the
ControlNets that diffusers documents."""
MAX_SOBEL = 4 * 255
"""Largest value of a Sobel filter of 3 × 3 pixels on bytes."""


def open_cv() -> Any:
    """The module ``cv2``.

    Raises:
        UsageError: if OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            "edges of images need the package opencv-python-headless",
            given=str(error),
            todo='pip install "diffcls[control]"',
        ) from None
    return cv2


def canny(image: Bytes) -> Bytes:
    """(H, W, 3) -> (H, W): 255 on edges, else 0 (Canny 1986)."""
    edges: Bytes = open_cv().Canny(image, *CANNY_THRESHOLDS)
    return edges


def soft(image: Bytes) -> Bytes:
    """(H, W, 3) -> (H, W): the length of the gradient, at most 255, of the steepest channel.

    Soft edges, as the network HED gives them, but without a network: texture stays in them.
    """
    cv2 = open_cv()
    across, down = (
        cv2.Sobel(image, cv2.CV_32F, *order, ksize=3) / MAX_SOBEL for order in ((1, 0), (0, 1))
    )  # (H, W, 3) each
    steepest = np.hypot(across, down).max(axis=2).clip(max=1.0)
    return np.rint(255 * steepest).astype(np.uint8)


EDGES: Mapping[str, Callable[[Bytes], Bytes]] = {"canny": canny, "soft": soft}
"""Kind of edges -> the function of an RGB image."""


def edge_map(kind: str, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Edges of an image as a ControlNet reads them.

    Args:
        kind: a key of `EDGES`.
        pixels: (3, H, W) in [−1, 1], the image as the model receives it.

    Returns:
        (3, H, W) in [0, 1], three equal channels.

    Raises:
        UsageError: if OpenCV is not installed.
    """
    image = np.rint((pixels.transpose(1, 2, 0).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    edges = EDGES[kind](np.ascontiguousarray(image))
    return np.repeat(edges[None].astype(np.float32) / np.float32(255), 3, axis=0)
