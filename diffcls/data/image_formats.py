"""Image formats that are read, and the recognition of image files by suffix or content."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
OPTIONAL_FORMATS = {"AVIF": "avif", "JPEG2000": "jpg_2000"}
"""Format -> the feature that Pillow was built with if it reads the format."""


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that are read, in Pillow's spelling."""
    from PIL import features

    optional = (name for name, feature in OPTIONAL_FORMATS.items() if features.check(feature))
    return (*FORMATS, *optional)


@cache
def suffixes() -> tuple[str, ...]:
    """Suffixes of the formats that are read, in lower case and sorted, such as ``.png``."""
    from PIL import Image

    readable = {*formats(), "MPO"}  # several JPEG images in a file, opened by the reader of JPEG
    return tuple(sorted(s for s, kind in Image.registered_extensions().items() if kind in readable))


def is_image_file(path: Path) -> bool:
    """Whether a file is taken for an image: by its suffix, or without a suffix by its content."""
    suffix = path.suffix.lower()
    return suffix in suffixes() if suffix.strip(".") else _has_image_header(path)


def _has_image_header(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=formats()):  # reads the header only
            return True
    except Image.DecompressionBombError:  # recorded as an image that is too large
        return True
    except Exception:  # exceptions differ between formats
        return False
