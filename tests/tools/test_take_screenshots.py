"""Screenshots are small, and show what was photographed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from diffcls.support.errors import DiffclsError
from tools.take_screenshots import compress


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_a_picture_of_few_colours_is_kept_to_the_pixel() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:20, 10:30] = (12, 90, 200)
    pixels[25:, :] = (250, 240, 230)
    kept = Image.open(io.BytesIO(compress(as_png(pixels)))).convert("RGB")
    assert np.array_equal(np.asarray(kept), pixels)


def test_a_picture_of_many_colours_gets_a_smaller_palette_until_it_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(compress(as_png(noise))))), noise)
    sizes = []
    for limit in (11_000, 8_000):
        small = compress(as_png(noise), limit)
        assert len(small) <= limit
        sizes.append(len(Image.open(io.BytesIO(small)).getcolors()))
    assert sizes[0] > sizes[1]
    with pytest.raises(DiffclsError, match="too large"):
        compress(as_png(noise), 1000)
