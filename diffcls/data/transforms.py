"""Image transforms: decoding to RGB, and the resize and centre crop to a model's input pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcls.data.image_formats import formats
from diffcls.support.errors import DataError, UsageError, unknown_name
from diffcls.support.paths import expand

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000
MAX_8_BIT, MAX_16_BIT = 255, 65535
MIN_MAXIMUM_OF_WHOLE_FLOATS = 32
"""Floats above 1 with a smaller maximum have no usual scale: scikit-learn's digits end at 16."""


def load_image(source: Any) -> Image.Image:
    """RGB image from a PIL image, a path, encoded bytes, or an array.

    EXIF orientation is not applied, as in the published protocol. Transparency is dropped. Pixels
    of arrays, and of gray images in PIL's modes I, I;16 and F, are scaled by one rule:

    - integers up to 255 are 8-bit values, integers up to 65535 are 16-bit values;
    - floats up to 1 are intensities; whole floats whose maximum is 32 or more count as integers;
    - all else is refused: negative values, larger ones, fractions above 1, and NaN.

    Args:
        source: a PIL image; a path; bytes of an encoded image; or an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4).

    Raises:
        DataError: if it cannot be read as an image, or has more than 50 million pixels.
    """
    from PIL import Image

    if isinstance(source, Image.Image):
        return _to_rgb(source, f"PIL image in mode {source.mode}")
    if isinstance(source, str | Path):
        return _decode(Path(expand(source)), str(source))
    if isinstance(source, bytes | bytearray):
        return _decode(io.BytesIO(source), f"{len(source)} bytes")
    return _to_rgb(Image.fromarray(_to_uint8(source)), "array")


def _decode(file: Any, shown: str) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(file, formats=formats()) as image:
            return _to_rgb(image, shown)
    except DataError:
        raise
    except Exception as error:  # exceptions differ between decoders
        raise _unreadable(shown, error) from error


def _to_rgb(image: Image.Image, shown: str) -> Image.Image:
    """First frame in RGB, fully decoded."""
    from PIL import Image

    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(
            "image is empty or too large",
            given=f"{shown}, {width}x{height}",
            allowed=f"1 to {MAX_PIXELS:,} pixels",
        )
    try:
        image.load()  # PIL decodes lazily: a truncated file raises here
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            # PIL's own conversion would clip at 255
            image = Image.fromarray(_scale(np.asarray(image), f", {shown}"))
        elif image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # avoids a warning of the direct conversion to RGB
        return image if image.mode == "RGB" else image.convert("RGB")
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(shown, error) from error


def _unreadable(shown: str, error: Exception) -> DataError:
    message = f"cannot read image ({type(error).__name__}: {error})"
    return DataError(message, given=shown, allowed=formats())


def _to_uint8(array: Any) -> NDArray[np.uint8]:
    """(H, W), (H, W, 3) or (H, W, 4) bytes of an array of pixels."""
    try:
        pixels = np.asarray(array)
    except (TypeError, ValueError) as error:  # such as a ragged list, or a tensor on an accelerator
        raise DataError(
            f"image cannot be converted to an array ({error})", given=type(array)
        ) from error
    valid_shape = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not valid_shape or pixels.size == 0 or pixels.dtype.kind not in "uif":
        raise DataError(
            "array is not an image",
            given=f"shape {pixels.shape}, dtype {pixels.dtype}",
            allowed="(H, W), (H, W, 1), (H, W, 3) or (H, W, 4), integers in 0–255 or floats in 0–1",
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]  # (H, W, 1) -> (H, W)
    return _scale(pixels)


def _scale(pixels: NDArray[Any], shown: str = "") -> NDArray[np.uint8]:
    """Bytes of integers or floats, by the rule of `load_image`; the shape stays."""
    low, high = float(pixels.min()), float(pixels.max())
    scale = _white(pixels, high) if low >= 0.0 else None  # None, too, for NaN
    if scale is None:
        whole = "0 to 255, or to 65535 as 16 bit"
        raise DataError(
            "pixel values out of range",
            given=f"{low:g} to {high:g} as {pixels.dtype}{shown}",
            allowed=f"0 to 1; whole numbers {whole}" if pixels.dtype.kind == "f" else whole,
        )
    return np.rint(pixels * (255.0 / scale)).astype(np.uint8)


def _white(pixels: NDArray[Any], high: float) -> float | None:
    """The value of white, for non-negative pixels with the maximum `high`; None if unknown."""
    if pixels.dtype.kind == "f":
        if high <= 1.0:
            return 1.0
        if high < MIN_MAXIMUM_OF_WHOLE_FLOATS or (pixels != np.rint(pixels)).any():
            return None
    return next((float(white) for white in (MAX_8_BIT, MAX_16_BIT) if high <= white), None)


INTERPOLATIONS = ("bicubic", "bilinear", "lanczos")
ADM = "adm"
"""Resizing of ADM (Dhariwal and Nichol 2021), with which DiT was trained: see `to_pixels`."""
RESIZINGS = (*INTERPOLATIONS, ADM)


def to_pixels(image: Image.Image, size: int, interpolation: str = "bicubic") -> NDArray[np.float32]:
    """Resize of the shorter side, centre crop, and scaling to [−1, 1].

    This is the transform of the published script, bit for bit: sizes are rounded as in
    torchvision's ``Resize`` and ``CenterCrop``. With ``adm`` it is that of the published script for
    DiT: both sides are halved by averages of 2×2 pixels while the shorter side is at least twice
    `size`, the rest is bicubic, and the centre crop is rounded towards the upper left.

    Args:
        image: RGB image.
        size: side of the square result in pixels, at least 1.
        interpolation: one of `RESIZINGS`.

    Returns:
        (3, size, size) float32 in [−1, 1].

    Raises:
        UsageError: for a size below 1, or an unknown interpolation.
        DataError: if the resized image, before the crop, would have more than 50 million pixels.
    """
    from PIL import Image

    if size < 1:
        raise UsageError("image size out of range", given=size, allowed="at least 1 pixel")
    if interpolation not in RESIZINGS:
        raise unknown_name("interpolation", interpolation, RESIZINGS)
    adm = interpolation == ADM
    if adm:
        image = _halved(image, size)
    width, height = image.size
    if adm:
        scale = size / min(width, height)
        resized = (round(width * scale), round(height * scale))
    elif width <= height:
        resized = (size, int(size * height / width))
    else:
        resized = (int(size * width / height), size)
    if resized[0] * resized[1] > MAX_PIXELS:
        raise DataError(
            f"image too elongated to resize its shorter side to {size} pixels",
            given=f"{width}x{height}",
            allowed=f"at most {MAX_PIXELS:,} pixels after resizing",
        )
    if image.size != resized:
        kind = "bicubic" if adm else interpolation
        image = image.resize(resized, Image.Resampling[kind.upper()])
    left, top = (side // 2 if adm else round(side / 2.0) for side in (n - size for n in resized))
    image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, dtype=np.float32)  # (size, size, 3)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(127.5) - np.float32(1.0)


def _halved(image: Image.Image, size: int) -> Image.Image:
    """The image, its sides halved while the shorter one is at least twice `size`."""
    from PIL import Image

    while min(image.size) >= 2 * size:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    return image


def to_image(pixels: Any) -> Image.Image:
    """PIL image of (3, H, W) floats in [−1, 1], clipped and rounded; inverse of `to_pixels`."""
    from PIL import Image

    array = np.asarray(pixels, dtype=np.float64).transpose(1, 2, 0)  # (H, W, 3)
    return Image.fromarray(np.rint(np.clip(array * 127.5 + 127.5, 0, 255)).astype(np.uint8))
