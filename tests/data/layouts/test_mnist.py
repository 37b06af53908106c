"""MNIST: idx files as torchvision reads them, never taken for those of Fashion-MNIST."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import assert_same_as_torchvision, read_images, read_layout, summary
from numpy.typing import NDArray

from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts
from diffcls.support.errors import DataError

# images per digit of the published test and training split
TEST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
TRAINING_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, labels: NDArray[np.uint8], prefix: str = "t10k") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 0, 0], images[:, 5, 7] = labels, 200
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))


@pytest.mark.parametrize(("split", "prefix"), [("test", "t10k"), ("train", "train")])
def test_images_and_labels_equal_torchvisions(tmp_path: Path, split: str, prefix: str) -> None:
    vision = pytest.importorskip("torchvision", reason="its reader is the reference").datasets
    for one in ("t10k", "train"):
        write(tmp_path / "MNIST" / "raw", np.array([7, 2, 1, 0, 4], np.uint8), one)
    reference = vision.MNIST(tmp_path, train=split == "train")
    dataset = read_images("mnist", tmp_path, split)
    assert [len(dataset), dataset.class_names] == [5, tuple("0123456789")]
    reference.classes = list(dataset.class_names)  # torchvision's are "0 - zero" and so on
    assert_same_as_torchvision(dataset, reference)
    for folder in ("raw", "mnist", "."):
        write(tmp_path / "other" / folder, np.array([7, 2, 1, 0, 4], np.uint8), prefix)
        assert summary(read_images("mnist", tmp_path / "other", split)) == summary(dataset)


def test_prompts_are_the_published_ones(tmp_path: Path) -> None:
    write(tmp_path / "MNIST" / "raw", np.array([3, 1], np.uint8))
    dataset = load_dataset("mnist", "test", tmp_path)
    prompts = build_prompts(EvaluationOptions(dataset="mnist"), dataset)
    assert prompts.prompts == tuple(f"a photo of the number: '{k}'." for k in range(10))
    assert catalog.find("mnist").model == "sd2-base"


@pytest.mark.parametrize(
    ("split", "prefix", "counts"),
    [("test", "t10k", TEST_COUNTS), ("train", "train", TRAINING_COUNTS)],
)
def test_whole_split_of_one_set_is_never_taken_for_the_other(
    tmp_path: Path, split: str, prefix: str, counts: tuple[int, ...]
) -> None:
    pytest.importorskip("torchvision", reason="the class names of Fashion-MNIST are torchvision's")
    digits = np.repeat(np.arange(10, dtype=np.uint8), counts)
    clothes = np.repeat(np.arange(10, dtype=np.uint8), len(digits) // 10)
    assert len(clothes) == len(digits) == sum(counts)
    write(tmp_path / "MNIST" / "raw", digits, prefix)
    write(tmp_path / "FashionMNIST" / "raw", clothes, prefix)
    mnist, fashion = (read_layout(name, tmp_path, split) for name in ("mnist", "fashion_mnist"))
    assert mnist is not None and fashion is not None
    assert np.bincount([item.label for item in mnist.items]).tolist() == list(counts)
    # given the raw folder of the other set, whose files have the same names
    with pytest.raises(DataError, match="--data-root: the files are not those of mnist"):
        read_layout("mnist", tmp_path / "FashionMNIST" / "raw", split)
    with pytest.raises(DataError, match="--data-root: the files are not those of fashion_mnist"):
        read_layout("fashion_mnist", tmp_path / "MNIST", split)
