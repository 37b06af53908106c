"""Maps of images: edges by OpenCV, and files named like the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcls.data.control_maps import parse
from diffcls.data.edges import EDGES, edge_map
from diffcls.support.errors import DataError, UsageError


def square(size: int = 32) -> np.ndarray:
    """(3, H, W) a white square on black, in [−1, 1]."""
    pixels = np.full((3, size, size), -1, np.float32)
    pixels[:, 8:24, 8:24] = 1
    return pixels


@pytest.mark.parametrize("kind", EDGES)
def test_edges_lie_on_the_outline_alone(kind: str) -> None:
    pytest.importorskip("cv2")
    edges = edge_map(kind, square())
    assert edges.shape == (3, 32, 32)
    assert edges.dtype == np.float32
    assert (edges[0] == edges[1]).all()
    assert 0 <= edges.min() < edges.max() <= 1
    rows, columns = np.nonzero(edges[0])
    # at most a pixel from the outline, whose sides are between pixels 7 and 8, and 23 and 24
    far = [min(abs(v - 7.5), abs(v - 23.5)) for v in range(32)]
    assert all(min(far[r], far[c]) <= 1.5 for r, c in zip(rows, columns, strict=True))
    inside = edges[0][10:22, 10:22]
    assert not inside.any()


def test_canny_is_open_cvs() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (5, 5), 0)
    pixels = (image.transpose(2, 0, 1).astype(np.float32) / 127.5) - 1
    expected = cv2.Canny(image, 100, 200)
    assert expected.any()
    assert (edge_map("canny", pixels)[0] * 255 == expected).all()


def test_given_maps_are_found_by_the_id_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    Image.new("L", (64, 64), 255).save(tmp_path / "cats" / "one.png")
    maps = parse(f"maps:{tmp_path}")
    assert (maps.of("cats/one.jpg", square()) == 1).all()
    with pytest.raises(DataError, match="an image has no map"):
        maps.of("cats/two.jpg", square())
    before = maps.revision
    Image.new("L", (64, 64), 0).save(tmp_path / "cats" / "one.png")
    assert parse(f"maps:{tmp_path}").revision != before


@pytest.mark.parametrize("text", ["cany", "maps", "maps:", "maps:/no/such/folder"])
def test_what_is_no_control_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="control"):
        parse(text)


def test_edges_without_open_cv_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(UsageError, match="diffcls\\[control\\]"):
        parse("canny")
