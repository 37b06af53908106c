"""Questions of visitors: an image, labels and a template, checked against the demo's limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.data.image_formats import formats
from diffcls.data.prompts import PromptSet, check_labels
from diffcls.support.errors import DataError, UsageError
from diffcls.support.options import check_text

if TYPE_CHECKING:
    from PIL import Image

MAX_LABEL_CHARACTERS, MAX_TEMPLATE_CHARACTERS = 100, 200
MAX_PIXELS = 50_000_000
"""Pixels of an upload, as a phone's camera makes; a small file may hold many more."""


@dataclass(frozen=True)
class Question:
    """A question of a visitor.

    Args:
        preset: name of the preset, see `diffcls.demo.presets`.
        image: RGB image.
        labels: two or more different labels.
        template: prompt template with one ``{}``.
    """

    preset: str
    image: Image.Image
    labels: tuple[str, ...]
    template: str


def read_labels(text: str | None, most: int) -> tuple[str, ...]:
    """Labels from a text, separated by commas, semicolons or line breaks.

    Args:
        text: what a visitor typed.
        most: greatest number of labels.

    Raises:
        UsageError: for fewer than two labels, too many, a long one, or one given twice.
    """
    parts = [" ".join(part.split()) for part in re.split(r"[,;\n]", text or "")]
    labels = [part for part in parts if part]
    if len(labels) < 2:
        raise UsageError(
            "too few labels", given=labels, todo="type two labels or more, separated by commas"
        )
    if len(labels) > most:
        raise UsageError("too many labels", given=len(labels), allowed=f"at most {most}")
    for label in labels:
        check_text("label", label, free=True)
        if len(label) > MAX_LABEL_CHARACTERS:
            raise UsageError(
                "label is too long",
                given=f"{label[:20]}…",
                allowed=f"at most {MAX_LABEL_CHARACTERS} characters",
            )
    return check_labels(labels)


def read_template(text: str | None) -> str:
    """A prompt template from a text.

    Raises:
        UsageError: for a text that is empty, too long, or without exactly one ``{}``.
    """
    template = " ".join((text or "").split())
    if not template or len(template) > MAX_TEMPLATE_CHARACTERS:
        raise UsageError(
            "prompt template is empty or too long",
            given=len(template),
            allowed=f"1 to {MAX_TEMPLATE_CHARACTERS} characters, such as 'a photo of a {{}}.'",
        )
    check_text("prompt template", template, free=True)
    PromptSet.from_templates(("a", "b"), (template,))
    return template


def open_upload(given: Any, folder: Path, max_bytes: int) -> Image.Image:
    """The image of an upload, upright and in RGB.

    Args:
        given: what the page sends: ``{"path": …}``, or None without an image. Nothing else of it
            is read, so that no address is fetched.
        folder: folder of the uploads; no file outside it is opened.
        max_bytes: size limit of the file.

    Raises:
        DataError: without an image, or for a file that is too large, is no image, or lies
            elsewhere.
    """
    from PIL import Image, ImageOps

    from diffcls.data.transforms import load_image

    path = given.get("path") if isinstance(given, dict) else None
    if not isinstance(path, str):
        raise DataError("no image", todo="drop, paste or photograph one, or choose an example")
    file = Path(path).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        raise DataError("the image is no longer here", todo="choose it again")
    if file.stat().st_size > max_bytes:
        allowed = f"at most {max_bytes / 1e6:g} MB"
        raise DataError("image is too large", f"{file.stat().st_size / 1e6:.1f} MB", allowed)
    try:
        with Image.open(file, formats=formats()) as image:  # reads the header only
            width, height = image.size
            if not 0 < width * height <= MAX_PIXELS:
                allowed = f"at most {MAX_PIXELS // 1_000_000} million pixels"
                raise DataError("image is too large", f"{width} × {height} pixels", allowed)
            # photographs of phones lie on their side; a model sees them as people do
            return load_image(ImageOps.exif_transpose(image))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # exceptions differ between decoders
        allowed = ", ".join(formats())
        raise DataError("the file cannot be read as an image", allowed=allowed) from error
