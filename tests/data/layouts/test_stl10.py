"""STL-10: pixels and labels as torchvision reads them, images read from their offset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import TEN_NAMES, assert_same_as_torchvision, read_images, read_layout, summary

from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError


def test_folder_without_the_layout_is_left_to_the_next_reader(tmp_path: Path) -> None:
    assert read_layout("stl10", tmp_path) is None
    (tmp_path / "stl10").mkdir()
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert read_layout("stl10", tmp_path) is None
    with pytest.raises(DataError, match="no stl10 found"):
        load_dataset("stl10", root=tmp_path / "stl10")


def write_stl(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    (folder / "class_names.txt").write_text("\n".join(TEN_NAMES) + "\n")
    for split, n in (("test", 3), ("train", 5)):
        pixels = rng.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8)
        (folder / f"{split}_X.bin").write_bytes(pixels.tobytes())
        labels = rng.integers(1, 11, n, dtype=np.uint8)
        (folder / f"{split}_y.bin").write_bytes(labels.tobytes())


@pytest.mark.parametrize("split", ["test", "train"])
def test_images_and_labels_equal_torchvisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    vision = pytest.importorskip(
        "torchvision", reason="the reference is torchvision's reader"
    ).datasets
    write_stl(tmp_path / "stl10_binary")
    monkeypatch.setattr(vision.STL10, "_check_integrity", lambda self: True)
    dataset = read_images("stl10", tmp_path, split)
    assert_same_as_torchvision(dataset, vision.STL10(tmp_path, split=split))
    own = read_images("stl10", tmp_path / "stl10_binary", split)
    assert summary(own) == summary(dataset)


@pytest.mark.parametrize("name", ["test_X.bin", "test_y.bin"])
def test_revision_changes_with_any_byte(tmp_path: Path, name: str) -> None:
    write_stl(tmp_path / "stl10")
    before = read_images("stl10", tmp_path)
    data = bytearray((tmp_path / "stl10" / name).read_bytes())
    data[-1] = 1 + data[-1] % 10
    (tmp_path / "stl10" / name).write_bytes(data)
    assert read_images("stl10", tmp_path).revision != before.revision


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("test_y.bin", None, "is missing: .*test_y.bin"),
        ("test_X.bin", None, "is missing: .*test_X.bin"),
        ("class_names.txt", None, "is missing: .*class_names.txt"),
        ("class_names.txt", b"caf\xe9", "cannot read .*UnicodeDecodeError.*class_names.txt"),
        ("test_y.bin", b"\1\2", "82944 bytes, for 2 labels'; allowed: 27648 bytes for each label"),
        ("test_X.bin", bytes(27648 * 3 - 1), "82943 bytes, for 3 labels"),
        ("test_y.bin", b"\1\2\0", "label of test/2 out of range: -1; allowed: 0 to 9"),
        ("test_y.bin", b"\1\2\13", "label of test/2 out of range: 10; allowed: 0 to 9"),
    ],
)
def test_missing_malformed_or_inconsistent_file_is_an_error(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    write_stl(tmp_path / "stl10_binary")
    path = tmp_path / "stl10_binary" / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_layout("stl10", tmp_path)


def test_image_truncated_after_loading_is_an_error_when_opened(tmp_path: Path) -> None:
    write_stl(tmp_path / "stl10_binary")
    dataset = read_images("stl10", tmp_path)
    (tmp_path / "stl10_binary" / "test_X.bin").write_bytes(bytes(2 * 27648 + 5))
    assert dataset.items[1].open().size == (96, 96)
    with pytest.raises(DataError, match=r"cannot read a file of the data set .*test_X.bin"):
        dataset.items[2].open()
