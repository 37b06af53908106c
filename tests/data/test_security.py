"""Images of strangers: only the formats of the list are opened, by no other program."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from diffcls.data.image_formats import formats, is_image_file
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError

PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(%s) (w) file closefile\nshowpage\n"


def test_other_plugins_of_pillow_open_no_file(tmp_path: Path) -> None:
    marker, image = tmp_path / "ran", tmp_path / "image.png"
    image.write_bytes(PROGRAM.replace(b"%s", str(marker).encode()))
    assert Image.open(image).format == "EPS"  # which Ghostscript would run
    assert not {"EPS", "PDF", "WMF", "FITS", "PSD"} & set(formats())
    with pytest.raises(DataError):
        load_image(image)
    assert not marker.exists()
    bare = image.rename(tmp_path / "image")
    assert not is_image_file(bare)


def test_image_of_more_pixels_than_any_camera_has_is_an_error_and_not_decoded(
    tmp_path: Path,
) -> None:
    # 20,000 × 20,000 in a few kilobytes
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="cannot read image"):
        load_image(path)
