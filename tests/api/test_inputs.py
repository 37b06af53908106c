"""Images of the Python call: each form gives the pixels of the image, the rest one line."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from transformers.image_utils import load_image as transformers_image

from diffcls.api.image_openers import opener
from diffcls.api.inputs import as_batch, as_list
from diffcls.support.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


def encoded() -> bytes:
    file = io.BytesIO()
    IMAGE.save(file, "PNG")
    return file.getvalue()


PNG = encoded()
CHW = torch.from_numpy(PIXELS).permute(2, 0, 1)


class Indexed:
    """A data set with a length, whose ``__getitem__`` never raises IndexError."""

    def __init__(self, entry: Any) -> None:
        self.entry = entry

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return self.entry


def read(image: Any) -> np.ndarray:
    return np.asarray(opener(image, "image 0")())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "one.png").write_bytes(PNG)
    return tmp_path / "one.png"


SINGLE: dict[str, Callable[[Path], Any]] = {
    "image": lambda p: IMAGE,
    "path": lambda p: p,
    "text of a path": str,
    "numpy text": lambda p: np.str_(p),
    "bytes": lambda p: PNG,
    "bytearray": lambda p: bytearray(PNG),
    "memoryview": lambda p: memoryview(PNG),
    "BytesIO": lambda p: io.BytesIO(PNG),
    "BytesIO at its end": lambda p: at_end(io.BytesIO(PNG)),
    "open file": lambda p: p.open("rb"),
    "base64": lambda p: base64.b64encode(PNG).decode(),
    "base64 in lines": lambda p: base64.encodebytes(PNG).decode(),
    "data URI": lambda p: "data:image/png;base64," + base64.b64encode(PNG).decode(),
    "bytes of datasets": lambda p: {"bytes": PNG, "path": None},
    "path of datasets": lambda p: {"bytes": None, "path": str(p)},
    "row of datasets": lambda p: {"image": IMAGE, "label": 3},
    "row with another name": lambda p: {"picture": IMAGE, "label": 3},
    "encoded row": lambda p: {"img": {"bytes": PNG, "path": None}, "label": 3},
    "array": lambda p: PIXELS,
    "floats": lambda p: PIXELS / 255.0,
    "array, channels first": lambda p: PIXELS.transpose(2, 0, 1),
    "tensor": lambda p: CHW,
    "float tensor": lambda p: CHW / 255.0,
    "tensor in half precision": lambda p: (CHW / 255.0).double().requires_grad_(),
    "tensor, channels last": lambda p: torch.from_numpy(PIXELS),
    "nested lists": lambda p: [PIXELS.tolist()][0],
}


def at_end(file: io.BytesIO) -> io.BytesIO:
    file.read()
    return file


@pytest.mark.parametrize("form", SINGLE)
def test_each_form_of_an_image_has_its_pixels(form: str, path: Path) -> None:
    given = SINGLE[form](path)
    assert (read(given) == PIXELS).all()
    if isinstance(given, io.IOBase):
        given.close()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_images_are_turned_upright_as_in_transformers(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    IMAGE.save(file, form, exif=exif)
    wanted = np.asarray(transformers_image(Image.open(file)))
    assert (wanted.shape == PIXELS.shape) == (orientation < 5)
    for given in (file, file.getvalue(), Image.open(io.BytesIO(file.getvalue()))):
        assert np.array_equal(read(given), wanted)


def test_damaged_metadata_leave_the_image_as_it_is() -> None:
    image = IMAGE.copy()
    image.info["exif"] = b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"
    assert (read(image) == PIXELS).all()


def test_a_stream_that_cannot_be_moved_is_read_from_where_it_is() -> None:
    class Response:
        def read(self) -> bytes:
            return PNG

    assert (read(Response()) == PIXELS).all()


def test_home_folder_is_expanded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(path.parent))
    assert (read("~/one.png") == PIXELS).all()


def test_gray_and_transparent_tensors_are_read() -> None:
    gray = CHW[:1]
    assert (read(gray) == np.repeat(gray.numpy().transpose(1, 2, 0), 3, axis=2)).all()
    assert (read(gray[0]) == read(gray)).all()
    four = torch.cat([CHW, torch.full_like(gray, 255)])
    assert (read(four) == PIXELS).all()


def rows() -> Iterator[Any]:
    yield from [IMAGE] * 3


MANY: dict[str, Callable[[Path], Any]] = {
    "list": lambda p: [IMAGE, str(p), PNG],
    "tuple": lambda p: (IMAGE, p, CHW),
    "generator": lambda p: rows(),
    "map": lambda p: map(str, [p] * 3),
    "series of paths": lambda p: pandas.Series([str(p)] * 3, index=[7, 7, 9]),
    "series of objects": lambda p: pandas.Series([IMAGE, PNG, p]),
    "table of one column": lambda p: pandas.DataFrame({"image": [str(p)] * 3}),
    "array of paths": lambda p: np.array([str(p)] * 3),
    "array of objects": lambda p: np.array([str(p), p, None], dtype=object)[[0, 1, 0]],
    "column of objects": lambda p: np.array([[str(p)]] * 3, dtype=object),
    "batch of arrays": lambda p: np.stack([PIXELS] * 3),
    "batch, channels first": lambda p: np.stack([PIXELS.transpose(2, 0, 1)] * 3),
    "arrays, channels first": lambda p: [PIXELS.transpose(2, 0, 1)] * 3,
    "batch of tensors": lambda p: torch.stack([CHW] * 3),
    "indexed": lambda p: Indexed(IMAGE),
    "torch data set": lambda p: Indexed((CHW, 5)),
    "labels as tensors": lambda p: Indexed((CHW, torch.tensor(5))),
    "tensors with labels": lambda p: torch.utils.data.TensorDataset(
        torch.stack([CHW] * 3), torch.arange(3)
    ),
    "data set": lambda p: table(p),
    "column": lambda p: table(p)["image"],
    "encoded column": lambda p: table(p).cast_column("image", datasets.Image(decode=False))[
        "image"
    ],
    "streamed data set": lambda p: table(p).to_iterable_dataset(),
}


def table(path: Path) -> datasets.Dataset:
    data = datasets.Dataset.from_dict({"image": [str(path)] * 3, "label": [0, 1, 2]})
    return data.cast_column("image", datasets.Image())


@pytest.mark.parametrize("form", MANY)
def test_each_form_of_several_images_is_a_list_in_its_order(form: str, path: Path) -> None:
    batch, several = as_batch(MANY[form](path))
    assert several and len(batch) == 3
    assert all((read(image) == PIXELS).all() for image in batch)
    assert len(as_list(MANY[form](path))) == 3


def test_one_image_is_no_list(path: Path) -> None:
    for form in SINGLE:
        if form not in ("nested lists", "array, channels first"):
            batch, several = as_batch(SINGLE[form](path))
            assert not several and len(batch) == 1
    with pytest.raises(DataError, match="single image"):
        as_list(IMAGE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "images cannot be read"),
        (3, "images cannot be read"),
        ({IMAGE.tobytes(), b"a"}, "no order"),
        ([], "no image"),
        (np.zeros((0, 4, 4, 3)), "no image"),
        (iter(()), "no image"),
        (np.array([["a", "b"]], dtype=object), "array of objects"),
        (PIXELS.transpose(2, 0, 1), "or several gray images"),
        (np.zeros((1, 8, 8)), "or several gray images"),
        (pandas.DataFrame({"a": ["x"], "b": ["y"]}), "several columns"),
        (
            datasets.DatasetDict({"test": datasets.Dataset.from_dict({"a": [1]})}),
            "several data sets",
        ),
    ],
)
def test_collections_without_order_or_column_are_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        as_batch(given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere/cat.png", "image 4: file not found"),
        (Path("nowhere") / ("x" * 300), "file not found"),
        ("a/" * 3000, "file not found"),
        ("averylongpathofplaincharacters/withoutanysuffix/atall/image", "file not found"),
        ("nul\0", "file not found"),
        ("", "folder|not found"),
        (".", "is a folder"),
        ("s3://bucket/cat.png", "address of another kind"),
        ("file:///etc/passwd", "address of another kind"),
        ("data:image/svg+xml,<svg/>", "data URI without base64"),
        ("data:image/png;base64,@@@", "base64 is damaged"),
        (None, "is missing"),
        (float("nan"), "is missing"),
        ({"bytes": None, "path": None}, "is missing"),
        ({"label": 3}, "without one column of images"),
        ({"a": IMAGE, "b": IMAGE}, "without one column of images"),
        (3, "cannot be read as an image"),
        (object(), "cannot be read as an image"),
        ([IMAGE, IMAGE], "cannot be read as an image"),
        ([IMAGE.convert("L")] * 3, "cannot be read as an image"),
        ([[1, 2], [3]], "cannot be read as an image"),
        (io.StringIO("text"), "file object of text"),
        (np.zeros((2, 4, 4, 3)), "array of 4 dimensions"),
        (np.float64(3), "array of 0 dimensions"),
        (np.zeros((3, 9, 3)), "first or the last axis"),
        (torch.zeros(3, 9, 4), "first or the last axis"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line_with_its_index(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        opener(given, "image 4")
    assert str(raised.value).startswith("image 4") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.randn(3, 8, 8), "out of range"),  # normalised by another model's transform
        (np.full((8, 8, 3), 200.5), "out of range"),
        (np.zeros((5, 8, 9)), "not an image"),
        (b"GIF89a nonsense", "cannot read image"),
        (b"", "cannot read image"),
    ],
)
def test_values_that_are_no_image_are_refused_when_it_is_opened(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(given)
