"""Fashion-MNIST: idx files as torchvision reads them, plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import TEN_NAMES, assert_same_as_torchvision, read_images, read_layout, summary
from numpy.typing import NDArray

from diffcls.data.layouts import fashion_mnist
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError


def test_folder_without_the_layout_is_left_to_the_next_reader(tmp_path: Path) -> None:
    assert read_layout("fashion_mnist", tmp_path) is None
    (tmp_path / "fashion_mnist").mkdir()
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert read_layout("fashion_mnist", tmp_path) is None
    with pytest.raises(DataError, match="no fashion_mnist found"):
        load_dataset("fashion_mnist", root=tmp_path / "fashion_mnist")


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion(folder: Path, gzipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    for prefix, n in (("t10k", 4), ("train", 6)):
        arrays = {
            "images-idx3": rng.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            "labels-idx1": rng.integers(0, 10, n, dtype=np.uint8),
        }
        for kind, array in arrays.items():
            data, end = (gzip.compress(idx(array)), ".gz") if gzipped else (idx(array), "")
            (folder / f"{prefix}-{kind}-ubyte{end}").write_bytes(data)


@pytest.mark.parametrize("split", ["test", "train"])
def test_images_and_labels_equal_torchvisions(tmp_path: Path, split: str) -> None:
    vision = pytest.importorskip(
        "torchvision", reason="the reference is torchvision's reader"
    ).datasets
    write_fashion(tmp_path / "FashionMNIST" / "raw")
    reference = vision.FashionMNIST(tmp_path, train=split == "train")
    assert_same_as_torchvision(read_images("fashion_mnist", tmp_path, split), reference)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("folder", ["FashionMNIST/raw", "raw", "fashion_mnist", "."])
def test_images_are_the_same_in_every_folder_plain_or_gzipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, gzipped: bool
) -> None:
    monkeypatch.setattr(fashion_mnist, "class_names", lambda: tuple(TEN_NAMES))
    write_fashion(tmp_path / "a" / folder, gzipped)
    write_fashion(tmp_path / "b")
    dataset = read_images("fashion_mnist", tmp_path / "a")
    assert summary(dataset) == summary(read_images("fashion_mnist", tmp_path / "b"))
    assert len(dataset) == 4


WHOLE = idx(np.zeros((4, 28, 28), np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:9],
        WHOLE[:-1],
        WHOLE + b"\0",
        b"\0\0\x09" + WHOLE[3:],
        b"\1" + WHOLE[1:],
        idx(np.zeros((4, 28, 27), np.uint8)),
        idx(np.zeros((0, 28, 28), np.uint8)),
        idx(np.zeros(4, np.uint8)),
        WHOLE[:4] + b"\xff\xff\xff\xff" + WHOLE[8:],  # declares three terabytes
    ],
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_malformed_idx_file_is_an_error(tmp_path: Path, data: bytes, gzipped: bool) -> None:
    write_fashion(tmp_path, gzipped)
    path = tmp_path / f"t10k-images-idx3-ubyte{'.gz' if gzipped else ''}"
    path.write_bytes(gzip.compress(data) if gzipped else data)
    with pytest.raises(DataError, match=path.name):
        read_layout("fashion_mnist", tmp_path)


def test_labels_that_are_missing_or_differ_in_number_are_an_error(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match=r"images and labels differ in number: \(4, 5\)"):
        read_layout("fashion_mnist", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"is missing: .*t10k-labels-idx1-ubyte"):
        read_layout("fashion_mnist", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"cannot read a file of the data set [(]BadGzipFile"):
        read_layout("fashion_mnist", tmp_path)


def test_class_names_require_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(
        DataError,
        match=r'Fashion-MNIST require torchvision.*pip install "diffcls\[clip\]"',
    ):
        read_layout("fashion_mnist", tmp_path)
