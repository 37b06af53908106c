"""CIFAR-10: both versions as torchvision reads them, and pickles that execute nothing."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers.layouts import TEN_NAMES, assert_same_as_torchvision, read_images, read_layout, summary

from diffcls.data.layouts import cifar10
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError


def test_folder_without_the_layout_is_left_to_the_next_reader(tmp_path: Path) -> None:
    assert read_layout("cifar10", tmp_path) is None
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert read_layout("cifar10", tmp_path) is None
    with pytest.raises(DataError, match="no cifar10 found"):
        load_dataset("cifar10", root=tmp_path / "cifar10")


class Python2(pickle._Pickler):
    """Pickler that writes text and bytes as strings of Python 2, as in the published files."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_python2_string(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_python2_string


def pickled(value: Any, protocol: str) -> bytes:
    if protocol != "python 2":
        return pickle.dumps(value, protocol=int(protocol))
    file = io.BytesIO()
    Python2(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def write_cifar(folder: Path, protocol: str = "python 2") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    (folder / "batches.meta").write_bytes(pickled({"label_names": TEN_NAMES}, protocol))
    (folder / "batches.meta.txt").write_text("\n".join(TEN_NAMES) + "\n\n")
    for number, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]):
        pixels = rng.integers(0, 256, (3 + number, 3072), dtype=np.uint8)
        labels = rng.integers(0, 10, 3 + number).tolist()
        (folder / name).write_bytes(pickled({"data": pixels, "labels": labels}, protocol))
        records = np.hstack([np.array(labels, np.uint8)[:, None], pixels])
        (folder / f"{name}.bin").write_bytes(records.tobytes())


@pytest.mark.parametrize("protocol", ["python 2", "2", "4"])
@pytest.mark.parametrize("split", ["test", "train"])
def test_images_and_labels_equal_torchvisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, split: str
) -> None:
    vision = pytest.importorskip(
        "torchvision", reason="the reference is torchvision's reader"
    ).datasets
    write_cifar(tmp_path / "cifar-10-batches-py", protocol)
    monkeypatch.setattr(vision.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(vision.cifar, "check_integrity", lambda path, md5: True)
    dataset = read_images("cifar10", tmp_path, split)
    assert_same_as_torchvision(dataset, vision.CIFAR10(tmp_path, train=split == "train"))
    assert len(dataset) == (3 if split == "test" else 4 + 5 + 6 + 7 + 8)
    assert dataset.items[-1].image_id == f"{split}/{len(dataset) - 1}"


@pytest.mark.parametrize("split", ["test", "train"])
def test_python_and_binary_versions_give_the_same_images(tmp_path: Path, split: str) -> None:
    write_cifar(tmp_path / "a")
    for suffix, folder in (("", "cifar-10-batches-py"), (".bin", "cifar-10-batches-bin")):
        (tmp_path / folder).mkdir()
        meta = "batches.meta" + (".txt" if suffix else "")
        for name in (meta, *(f"{b}{suffix}" for bs in cifar10.BATCH_FILES.values() for b in bs)):
            shutil.copy(tmp_path / "a" / name, tmp_path / folder / name)
    python = read_images("cifar10", tmp_path / "cifar-10-batches-py", split)
    binary = read_images("cifar10", tmp_path / "cifar-10-batches-bin", split)
    assert summary(python) == summary(binary)
    for left, right in zip(python.items, binary.items, strict=True):
        assert left.open().tobytes() == right.open().tobytes()


class PickledCall:
    """Object whose pickle calls a function when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("file", ["test_batch", "batches.meta"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.mkdir, np.save, builtins.eval])
def test_code_in_a_pickle_is_not_executed(
    tmp_path: Path, file: str, protocol: int, function: Callable[..., Any]
) -> None:
    write_cifar(tmp_path)
    trap = tmp_path / "ran.npy"
    arguments: dict[Any, tuple[Any, ...]] = {
        os.mkdir: (str(trap),),
        np.save: (str(trap), 1),
        builtins.eval: (f"open({str(trap)!r}, 'w')",),
    }
    malicious = pickle.dumps(
        {"data": PickledCall(function, *arguments[function])}, protocol=protocol
    )
    (tmp_path / file).write_bytes(malicious)
    with pytest.raises(DataError, match=rf"was not executed: '.*{function.__name__}'.*{file}"):
        read_layout("cifar10", tmp_path)
    assert not trap.exists()
    pickle.loads(malicious)
    assert trap.exists(), "the pickle calls nothing, so the test could not fail"


@pytest.mark.parametrize(
    "malicious",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",  # an attribute through a dotted name
        b"cnumpy.core.multiarray\nfromfile\n.",
    ],
)
def test_globals_that_are_not_allowed_are_not_looked_up(tmp_path: Path, malicious: bytes) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(malicious)
    with pytest.raises(DataError, match="was not executed: 'numpy"):
        read_layout("cifar10", tmp_path)


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
def test_pickle_of_other_content_is_an_error(tmp_path: Path, value: Any) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(DataError, match=r"file is not (a batch|part) of CIFAR-10: .*test_batch"):
        read_layout("cifar10", tmp_path)


def test_truncated_missing_or_malformed_file_is_an_error(tmp_path: Path) -> None:
    write_cifar(tmp_path / "py")
    batch = tmp_path / "py" / "test_batch"
    batch.write_bytes(batch.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cannot read a file .*test_batch'; unpack"):
        read_layout("cifar10", tmp_path / "py")
    batch.unlink()
    with pytest.raises(DataError, match=r"is missing: .*test_batch"):
        read_layout("cifar10", tmp_path / "py")
    write_cifar(tmp_path / "py")
    (tmp_path / "py" / "batches.meta").write_bytes(pickle.dumps({"label_names": [1, 2]}))
    with pytest.raises(DataError, match="file without label_names"):
        read_layout("cifar10", tmp_path / "py")
    for data in (b"", bytes(3074)):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "test_batch.bin").write_bytes(data)
        with pytest.raises(DataError, match=f"not a whole number of images.* {len(data)} bytes"):
            read_layout("cifar10", folder)
