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


def gray(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (32, 32), level).save(path)


def level(folder: Path, image_id: str) -> int:
    """Gray level of the map of an image."""
    found = np.unique(np.rint(parse(f"maps:{folder}").of(image_id, square()) * 255))
    return int(found.item())


def test_each_image_has_its_own_map_whatever_the_suffix(tmp_path: Path) -> None:
    for name, value in {
        "x.png": 10,
        "x.bmp": 20,
        "y.PNG": 30,
        "a/z.png": 40,
        "v.1.png": 50,
    }.items():
        gray(tmp_path / "maps" / name, value)
    maps = tmp_path / "maps"
    # two images that differ in suffix only
    assert (level(maps, "x.png"), level(maps, "x.bmp")) == (10, 20)
    for image_id in ("y.PNG", "y.png", "y.jpg", "y"):
        assert level(maps, image_id) == 30
    assert level(maps, "a/z.JPG") == 40
    assert level(maps, "v.1") == level(maps, "v.1.jpg") == 50
    with pytest.raises(DataError, match=r"several maps fit an image: .x.bmp, x.png for x.jpg"):
        level(maps, "x.jpg")
    for missing in ("z.png", "a/x.png", "v.2", ""):
        with pytest.raises(DataError, match="an image has no map"):
            level(maps, missing)


def test_ids_that_leave_the_folder_have_no_map(tmp_path: Path) -> None:
    gray(tmp_path / "maps" / "in.png", 10)
    gray(tmp_path / "out.png", 20)
    for image_id in ("../out.png", f"{tmp_path}/out.png", "in/../../out.png", "../maps/in.png"):
        with pytest.raises(DataError, match="an image has no map"):
            level(tmp_path / "maps", image_id)


def test_maps_are_found_through_links_as_images_are(tmp_path: Path) -> None:
    gray(tmp_path / "elsewhere" / "one.png", 10)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "cats").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert level(tmp_path / "maps", "cats/one.jpg") == 10
    before = parse(f"maps:{tmp_path / 'maps'}").revision
    gray(tmp_path / "elsewhere" / "one.png", 20)
    assert parse(f"maps:{tmp_path / 'maps'}").revision != before


@pytest.mark.parametrize("text", ["cany", "maps", "maps:", "maps:/no/such/folder"])
def test_what_is_no_control_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="control"):
        parse(text)


def test_edges_without_open_cv_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(UsageError, match="diffcls\\[control\\]"):
        parse("canny")
