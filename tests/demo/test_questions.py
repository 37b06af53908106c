"""Questions of visitors: what is read, and what is refused before the model does anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffcls.demo.options import DemoOptions
from diffcls.demo.questions import (
    MAX_LABEL_CHARACTERS,
    MAX_PIXELS,
    open_upload,
    read_labels,
    read_template,
)
from diffcls.support.errors import DataError, UsageError

MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    "text", ["cat, dog,fox", " cat ;dog;  fox ", "cat\ndog\n\nfox\n", "cat,,dog, fox,"]
)
def test_labels_are_separated_by_commas_semicolons_or_lines(text: str) -> None:
    assert read_labels(text, 20) == ("cat", "dog", "fox")


def test_spaces_within_a_label_are_kept_as_one() -> None:
    assert read_labels("a  red   circle, b", 20) == ("a red circle", "b")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "too few labels"),
        ("", "too few labels"),
        ("cat", "too few labels"),
        (" , ,", "too few labels"),
        ("a,b,c,d", "too many labels: 4; allowed: at most 3"),
        ("cat, dog, cat", "cat"),
        ("a, " + "b" * (MAX_LABEL_CHARACTERS + 1), "label is too long"),
        ("a, b\x00c", "control character"),
        ("a, b\udcff", "not valid UTF-8"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(text: str | None, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_labels(text, 3)


def test_a_template_has_one_place_for_the_label() -> None:
    assert read_template("  a photo  of a {}. ") == "a photo of a {}."
    for wrong in (None, "", "a photo", "{} and {}", "a {name}", "x" * 300 + "{}", "{}\x1b[0m"):
        with pytest.raises(UsageError):
            read_template(wrong)


# ---- uploads ------------------------------------------------------------------------------------


def saved(
    folder: Path, name: str = "image.png", size: tuple[int, int] = (6, 4), **more: Any
) -> Path:
    path = folder / name
    Image.new("RGB", size, (200, 10, 10)).save(path, **more)
    return path


def test_an_upload_is_opened_in_rgb(tmp_path: Path) -> None:
    path = tmp_path / "gray.png"
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(path)
    image = open_upload({"path": str(path), "url": "https://example.org/"}, tmp_path, MEGABYTE)
    assert (image.mode, image.size) == ("RGB", (6, 4))


def test_a_photograph_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    path = saved(tmp_path, "photo.jpg", exif=exif)
    assert open_upload({"path": str(path)}, tmp_path, MEGABYTE).size == (4, 6)


@pytest.mark.parametrize("given", [None, {}, {"url": "http://127.0.0.1/a.png"}, [], {"path": 3}])
def test_without_a_file_there_is_no_image_and_no_address_is_fetched(
    given: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no image"):
        open_upload(given, tmp_path, MEGABYTE)


def test_no_file_outside_the_folder_of_uploads_is_opened(tmp_path: Path) -> None:
    folder, secret = tmp_path / "uploads", saved(tmp_path, "secret.png")
    folder.mkdir()
    os.symlink(secret, folder / "link.png")
    for path in (secret, folder / ".." / "secret.png", folder / "link.png", folder, "/etc/passwd"):
        with pytest.raises(DataError, match="no longer here"):
            open_upload({"path": str(path)}, folder, MEGABYTE)


def test_a_file_or_image_that_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(DataError, match="image is too large"):
        open_upload({"path": str(path)}, tmp_path, path.stat().st_size - 1)
    side = int(MAX_PIXELS**0.5) + 1
    bomb = tmp_path / "bomb.png"
    Image.new("1", (side, side)).save(bomb)
    assert bomb.stat().st_size < 50_000
    with pytest.raises(DataError, match="at most 50 million pixels"):
        open_upload({"path": str(bomb)}, tmp_path, MEGABYTE)


def test_a_photograph_of_a_phone_is_within_the_default_limits() -> None:
    """Of 50 megapixels, as common sensors make, and of up to 15 MB."""
    assert 8160 * 6120 <= MAX_PIXELS < 89_478_485  # from there on, Pillow warns of a bomb
    assert DemoOptions().max_upload_bytes == 15_000_000


def test_what_is_no_image_is_refused_with_the_formats_that_are_read(tmp_path: Path) -> None:
    for name, content in (("a.png", b"no image"), ("b.svg", b"<svg/>"), ("c.eps", b"%!PS-Adobe")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as an image; allowed: JPEG, PNG"):
            open_upload({"path": str(tmp_path / name)}, tmp_path, MEGABYTE)
    path = saved(tmp_path, size=(60, 40))
    path.write_bytes(path.read_bytes()[:80])  # truncated
    with pytest.raises(DataError):
        open_upload({"path": str(path)}, tmp_path, MEGABYTE)
