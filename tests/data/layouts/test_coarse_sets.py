"""Sets of ten classes, read as their makers lay them out on a disk: arrays in few files."""

from __future__ import annotations

import builtins
import gzip
import importlib
import io
import os
import pickle
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.layouts import cifar10, fashion_mnist
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError

REFERENCE = "the reference is torchvision's reader"
TEN = [f"name {i}" for i in range(10)]


def read(name: str, root: Path, split: str = "test") -> Dataset | None:
    module = importlib.import_module(f"diffcls.data.layouts.{name}")
    found: Dataset | None = module.load(catalog.Query(catalog.find(name), split, root))
    return found


def read_all(name: str, root: Path, split: str = "test") -> Dataset:
    dataset = read(name, root, split)
    assert dataset is not None
    ids = [item.image_id for item in dataset.items]
    assert len(set(ids)) == len(ids)
    return dataset


def summary(dataset: Dataset) -> tuple[Any, ...]:
    return dataset.class_names, dataset.revision, [(i.image_id, i.label) for i in dataset.items]


def assert_same(dataset: Dataset, reference: Any) -> None:
    """Images, labels and their order are those of a torchvision data set."""
    assert len(dataset) == len(reference) > 0
    assert list(dataset.class_names) == list(reference.classes)
    for item, (image, label) in zip(dataset.items, reference, strict=True):
        assert item.label == label
        assert np.array_equal(np.asarray(item.open()), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist", "stl10"])
def test_empty_folder_is_left_to_the_next_reader(tmp_path: Path, name: str) -> None:
    assert read(name, tmp_path) is None
    (tmp_path / name).mkdir()
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert read(name, tmp_path) is None
    with pytest.raises(DataError, match=f"no {name} found"):
        load_dataset(name, root=tmp_path / name)


# ---- CIFAR-10 ----------------------------------------------------------------------------------


class Python2(pickle._Pickler):
    """Writes texts and bytes alike as Python 2's strings, as the published files have them."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_old(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_old


def pickled(value: Any, form: str) -> bytes:
    if form != "python 2":
        return pickle.dumps(value, protocol=int(form))
    file = io.BytesIO()
    Python2(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def write_cifar(folder: Path, form: str = "python 2") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    (folder / "batches.meta").write_bytes(pickled({"label_names": TEN}, form))
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    for number, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]):
        pixels = rng.integers(0, 256, (3 + number, 3072), dtype=np.uint8)
        labels = rng.integers(0, 10, 3 + number).tolist()
        (folder / name).write_bytes(pickled({"data": pixels, "labels": labels}, form))
        records = np.hstack([np.array(labels, np.uint8)[:, None], pixels])
        (folder / f"{name}.bin").write_bytes(records.tobytes())


@pytest.mark.parametrize("form", ["python 2", "2", "4"])
@pytest.mark.parametrize("split", ["test", "train"])
def test_cifar10_is_what_torchvision_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, split: str
) -> None:
    vision = pytest.importorskip("torchvision", reason=REFERENCE).datasets
    write_cifar(tmp_path / "cifar-10-batches-py", form)
    monkeypatch.setattr(vision.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(vision.cifar, "check_integrity", lambda path, md5: True)
    dataset = read_all("cifar10", tmp_path, split)
    assert_same(dataset, vision.CIFAR10(tmp_path, train=split == "train"))
    assert len(dataset) == (3 if split == "test" else 4 + 5 + 6 + 7 + 8)
    assert dataset.items[-1].image_id == f"{split}/{len(dataset) - 1}"


@pytest.mark.parametrize("split", ["test", "train"])
def test_both_formats_of_cifar10_hold_the_same(tmp_path: Path, split: str) -> None:
    write_cifar(tmp_path / "a")
    for suffix, folder in (("", "cifar-10-batches-py"), (".bin", "cifar-10-batches-bin")):
        (tmp_path / folder).mkdir()
        meta = "batches.meta" + (".txt" if suffix else "")
        for name in (meta, *(f"{b}{suffix}" for bs in cifar10.BATCH_FILES.values() for b in bs)):
            shutil.copy(tmp_path / "a" / name, tmp_path / folder / name)
    one = read_all("cifar10", tmp_path / "cifar-10-batches-py", split)
    other = read_all("cifar10", tmp_path / "cifar-10-batches-bin", split)
    assert summary(one) == summary(other)
    for left, right in zip(one.items, other.items, strict=True):
        assert left.open().tobytes() == right.open().tobytes()


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("file", ["test_batch", "batches.meta"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.mkdir, np.save, builtins.eval])
def test_nothing_in_a_pickle_is_run(
    tmp_path: Path, file: str, protocol: int, function: Callable[..., Any]
) -> None:
    write_cifar(tmp_path)
    trap = tmp_path / "ran.npy"
    arguments: dict[Any, tuple[Any, ...]] = {
        os.mkdir: (str(trap),),
        np.save: (str(trap), 1),
        builtins.eval: (f"open({str(trap)!r}, 'w')",),
    }
    evil = pickle.dumps({"data": Calls(function, *arguments[function])}, protocol=protocol)
    (tmp_path / file).write_bytes(evil)
    with pytest.raises(DataError, match=rf"was not run: '.*{function.__name__}'.*{file}"):
        read("cifar10", tmp_path)
    assert not trap.exists()
    pickle.loads(evil)
    assert trap.exists(), "the trap would not have caught anything"


@pytest.mark.parametrize(
    "evil",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",  # an attribute, by a dotted name
        b"cnumpy.core.multiarray\nfromfile\n.",
    ],
)
def test_only_whole_names_of_the_list_are_looked_up(tmp_path: Path, evil: bytes) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(evil)
    with pytest.raises(DataError, match="was not run: 'numpy"):
        read("cifar10", tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        ["no dictionary"],
        {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 2]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1, "2"]},
        {"data": np.zeros((2, 3072), np.float64), "labels": [1, 2]},
        {"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]},
        {"data": "text", "labels": [1, 2]},
    ],
)
def test_pickle_of_something_else_is_refused(tmp_path: Path, value: Any) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(DataError, match=r"not a (batch|file) of CIFAR-10: .*test_batch"):
        read("cifar10", tmp_path)


def test_broken_files_of_cifar10_are_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path / "py")
    batch = tmp_path / "py" / "test_batch"
    batch.write_bytes(batch.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cannot read a file .*test_batch'; unpack"):
        read("cifar10", tmp_path / "py")
    batch.unlink()
    with pytest.raises(DataError, match=r"is missing: .*test_batch"):
        read("cifar10", tmp_path / "py")
    write_cifar(tmp_path / "py")
    (tmp_path / "py" / "batches.meta").write_bytes(pickle.dumps({"label_names": [1, 2]}))
    with pytest.raises(DataError, match="no label_names in this file"):
        read("cifar10", tmp_path / "py")
    for data in (b"", bytes(3074)):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "test_batch.bin").write_bytes(data)
        with pytest.raises(DataError, match=f"not a whole number of images.* {len(data)} bytes"):
            read("cifar10", folder)


# ---- Fashion-MNIST -----------------------------------------------------------------------------


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
def test_fashion_mnist_is_what_torchvision_reads(tmp_path: Path, split: str) -> None:
    vision = pytest.importorskip("torchvision", reason=REFERENCE).datasets
    write_fashion(tmp_path / "FashionMNIST" / "raw")
    reference = vision.FashionMNIST(tmp_path, train=split == "train")
    assert_same(read_all("fashion_mnist", tmp_path, split), reference)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("folder", ["FashionMNIST/raw", "raw", "fashion_mnist", "."])
def test_fashion_mnist_is_the_same_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, gzipped: bool
) -> None:
    monkeypatch.setattr(fashion_mnist, "class_names", lambda: tuple(TEN))
    write_fashion(tmp_path / "a" / folder, gzipped)
    write_fashion(tmp_path / "b")
    one = read_all("fashion_mnist", tmp_path / "a")
    assert summary(one) == summary(read_all("fashion_mnist", tmp_path / "b"))
    assert len(one) == 4


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
        WHOLE[:4] + b"\xff\xff\xff\xff" + WHOLE[8:],  # says it holds three terabytes
    ],
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_broken_idx_file_is_refused(tmp_path: Path, data: bytes, gzipped: bool) -> None:
    write_fashion(tmp_path, gzipped)
    path = tmp_path / f"t10k-images-idx3-ubyte{'.gz' if gzipped else ''}"
    path.write_bytes(gzip.compress(data) if gzipped else data)
    with pytest.raises(DataError, match=path.name):
        read("fashion_mnist", tmp_path)


def test_fashion_mnist_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match=r"images and labels differ in number: \(4, 5\)"):
        read("fashion_mnist", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"is missing: .*t10k-labels-idx1-ubyte"):
        read("fashion_mnist", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"cannot read a file of the data set [(]BadGzipFile"):
        read("fashion_mnist", tmp_path)


def test_names_of_fashion_mnist_need_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fashion(tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataError, match=r'not installed; pip install "diffcls\[clip\]"'):
        read("fashion_mnist", tmp_path)


# ---- STL-10 ------------------------------------------------------------------------------------


def write_stl(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    (folder / "class_names.txt").write_text("\n".join(TEN) + "\n")
    for split, n in (("test", 3), ("train", 5)):
        pixels = rng.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8)
        (folder / f"{split}_X.bin").write_bytes(pixels.tobytes())
        labels = rng.integers(1, 11, n, dtype=np.uint8)
        (folder / f"{split}_y.bin").write_bytes(labels.tobytes())


@pytest.mark.parametrize("split", ["test", "train"])
def test_stl10_is_what_torchvision_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    vision = pytest.importorskip("torchvision", reason=REFERENCE).datasets
    write_stl(tmp_path / "stl10_binary")
    monkeypatch.setattr(vision.STL10, "_check_integrity", lambda self: True)
    dataset = read_all("stl10", tmp_path, split)
    assert_same(dataset, vision.STL10(tmp_path, split=split))
    own = read_all("stl10", tmp_path / "stl10_binary", split)
    assert summary(own) == summary(dataset)


@pytest.mark.parametrize("name", ["test_X.bin", "test_y.bin"])
def test_revision_of_stl10_changes_with_any_byte(tmp_path: Path, name: str) -> None:
    write_stl(tmp_path / "stl10")
    before = read_all("stl10", tmp_path)
    data = bytearray((tmp_path / "stl10" / name).read_bytes())
    data[-1] = 1 + data[-1] % 10
    (tmp_path / "stl10" / name).write_bytes(data)
    assert read_all("stl10", tmp_path).revision != before.revision


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
def test_broken_stl10_is_refused(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    write_stl(tmp_path / "stl10_binary")
    path = tmp_path / "stl10_binary" / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read("stl10", tmp_path)


def test_image_of_stl10_that_was_cut_off_since_is_refused_when_opened(tmp_path: Path) -> None:
    write_stl(tmp_path / "stl10_binary")
    dataset = read_all("stl10", tmp_path)
    (tmp_path / "stl10_binary" / "test_X.bin").write_bytes(bytes(2 * 27648 + 5))
    assert dataset.items[1].open().size == (96, 96)
    with pytest.raises(DataError, match=r"cannot read a file of the data set .*test_X.bin"):
        dataset.items[2].open()
