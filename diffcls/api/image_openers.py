"""Openers of single images: what a person gives as an image, as a function that opens it."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.api.remote_images import PUBLIC_ONLY, WebAccess, fetch
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

ALLOWED = (
    "a PIL image, path, URL, base64 text, bytes, binary file, dictionary with bytes or path, array "
    "or tensor; or a list, series, column, data set or generator of these"
)
CHANNELS = (1, 3, 4)
# the first bytes of JPEG, PNG, WebP, BMP, GIF, TIFF and PPM in base64, and no path's characters
BASE64_IMAGE = re.compile(
    r"(?:/9j/|iVBOR|UklGR|Qk|R0lGO|SUkq|TU0A|UD[A-Z])[A-Za-z0-9+/\s]{36,}={0,2}\s*\Z"
)
IMAGE_COLUMNS = ("image", "img")

Opener = Callable[[], "Image.Image"]


def opener(image: Any, name: str, access: WebAccess = PUBLIC_ONLY) -> Opener:
    """Function that opens an image; it may be called more than once.

    The image is turned upright by its EXIF orientation, as transformers' pipelines do.

    Args:
        image: one image of `as_batch`.
        name: its name in messages, such as "image 0".
        access: limits for an address of the web.

    Raises:
        DataError: for anything that is no image, and a file that does not exist.
    """
    if isinstance(image, Mapping):
        return opener(_from_mapping(image, name), name, access)
    if isinstance(image, tuple) and len(image) == 2 and _is_label(image[1]):
        return opener(image[0], name, access)  # an entry (image, label) of a torch data set
    if isinstance(image, str):
        return _from_text(str(image), name, access)
    if isinstance(image, os.PathLike):
        return partial(_upright, _existing(image, name))
    if isinstance(image, bytes | bytearray | memoryview):
        return partial(_upright, bytes(image))
    if callable(getattr(image, "read", None)):
        return partial(_upright, _content(image, name))
    if isinstance(image, list):
        image = _numbers(image)
    if is_array(image):
        return partial(load_image, _channels_last(image, name))
    if is_pil(image):
        return partial(_upright, image)
    if image is None or (isinstance(image, float) and image != image):
        raise DataError(f"{name} is missing", given=image, todo="remove it")
    raise DataError(f"{name} cannot be read as an image", given=shown(image), allowed=ALLOWED)


def _upright(source: Any) -> Image.Image:
    """RGB image, turned by its EXIF orientation; metadata that cannot be read have none."""
    from PIL import ImageOps

    image = load_image(source)
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata raise errors of many kinds; the pixels are whole
        return image


# ---- kinds of objects ---------------------------------------------------------------------------


def is_pil(value: Any) -> bool:
    """Whether it is a PIL image."""
    from PIL import Image

    return isinstance(value, Image.Image)


def is_array(value: Any) -> bool:
    """Whether it is an array or tensor; tables of pandas are not."""
    if isinstance(value, np.ndarray | np.generic):
        return True
    if library(value) in ("pandas", "polars", "datasets", "PIL"):
        return False
    return all(hasattr(value, name) for name in ("__array__", "shape", "dtype"))


def holds_objects(value: Any) -> bool:
    """Whether it is a NumPy array of paths, images or other objects."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "OUS"


def library(value: Any) -> str:
    """The library of an object's class."""
    return type(value).__module__.partition(".")[0]


def _is_label(value: Any) -> bool:
    return isinstance(value, int | np.integer) or (is_array(value) and value.shape == ())


def shown(value: Any) -> str:
    """The class of an object, and its shape if it has one, for messages."""
    shape = getattr(value, "shape", None)
    name = f"{library(value)}.{type(value).__name__}".removeprefix("builtins.")
    return name if shape is None else f"{name} of shape {tuple(shape)}"


# ---- one image -----------------------------------------------------------------------------------


def _from_mapping(row: Mapping[Any, Any], name: str) -> Any:
    """The image of ``{"bytes": …, "path": …}``, or of a row with one column of images."""
    columns = [key for key in IMAGE_COLUMNS if key in row]
    columns = columns or [key for key, value in row.items() if is_pil(value)]
    if not columns and ("bytes" in row or "path" in row):
        return row.get("bytes") if row.get("bytes") is not None else row.get("path")
    if len(columns) != 1:
        raise DataError(
            f"{name} is a row without one column of images",
            given=list(row)[:8],
            allowed="keys bytes and path, or a key image",
        )
    return row[columns[0]]


def _from_text(text: str, name: str, access: WebAccess) -> Opener:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme is not None and scheme[1].lower() in ("http", "https"):
        return lambda: _upright(fetch(text, access))
    if scheme is not None:
        raise DataError(
            f"{name} has an address of another kind",
            given=text[:200],
            allowed="http://, https://, or the path of a file",
        )
    if text[:5].lower() == "data:":
        header, comma, encoded = text.partition(",")
        if comma and header.lower().endswith(";base64"):
            return partial(_upright, _decoded(encoded, name))
        raise DataError(f"{name}: a data URI without base64", given=text[:60])
    if BASE64_IMAGE.match(text) and not os.path.isfile(text):
        return partial(_upright, _decoded(text, name))
    return partial(_upright, _existing(text, name))


def _decoded(encoded: str, name: str) -> bytes:
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{name}: base64 is damaged ({error})", given=f"{encoded[:60]}…") from error


def _existing(path: str | os.PathLike[Any], name: str) -> Path:
    """The path of an existing file, ``~`` expanded."""
    try:
        file = Path(os.fsdecode(path)).expanduser()
    except RuntimeError:  # no home folder
        file = Path(os.fsdecode(path))
    if os.path.isfile(file):  # False for a name that is too long, too
        return file
    given = os.fsdecode(path)[:200]
    if os.path.isdir(file):
        raise DataError(f"{name} is a folder", given=given, todo="give a list of its files")
    raise DataError(f"{name}: file not found", given=given, todo="check the path")


def _content(file: Any, name: str) -> bytes:
    """All bytes of a file object, from its start where it can be moved."""
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        content = file.read()
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{name}: file object cannot be read ({error})") from error
    if not isinstance(content, bytes | bytearray):
        raise DataError(
            f"{name} is a file object of text", given=shown(file), todo='open it in mode "rb"'
        )
    return bytes(content)


# ---- arrays -------------------------------------------------------------------------------------


def _array(value: Any) -> np.ndarray[Any, Any]:
    """A NumPy array of an array or tensor, which may be on an accelerator or part of a graph."""
    if library(value) == "torch":
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.float()  # NumPy has no bfloat16
    return np.asarray(value)


def _numbers(rows: list[Any]) -> Any:
    """The array of nested lists of numbers; any other list stays as it is."""
    first: Any = rows
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if not isinstance(first, int | float):  # images in a list are several images, not channels
        return rows
    try:
        array = np.asarray(rows)
    except (TypeError, ValueError):  # such as rows of different lengths
        return rows
    return array if array.dtype.kind in "uif" and array.ndim > 1 else rows


def _channels_last(image: Any, name: str) -> np.ndarray[Any, Any]:
    """(H, W) or (H, W, C) from these, or from (C, H, W); refused where it may be either."""
    pixels = _array(image)
    if pixels.ndim not in (2, 3):
        raise DataError(
            f"{name} is an array of {pixels.ndim} dimensions",
            given=shown(image),
            allowed="(H, W), (H, W, C) or (C, H, W) for one image",
        )
    if pixels.ndim == 2 or pixels.shape[0] not in CHANNELS:
        return pixels
    if pixels.shape[2] in CHANNELS:
        raise DataError(
            f"{name}: channels may be the first or the last axis",
            given=f"shape {pixels.shape}",
            todo="give a PIL image",
        )
    return pixels.transpose(1, 2, 0)
