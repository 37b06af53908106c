"""ObjectNet: the classes shared with ImageNet, without the border of the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import read_layout
from PIL import Image

from diffcls.data.dataset import Dataset
from diffcls.data.layouts import objectnet
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError

FOLDERS = {
    "full_sized_towel": "Bath towel",
    "binder_closed": "Binder (closed)",
    "air_freshener": "Air freshener",
    "t-shirt": "T-shirt",
}
SHARED = {"T-shirt": "jersey", "Bath towel": "bath towel", "Binder (closed)": "binder"}


def write_objectnet(root: Path) -> None:
    (root / "mappings").mkdir(parents=True)
    (root / "mappings" / objectnet.LABELS_FILE).write_text(json.dumps(FOLDERS))
    (root / "mappings" / objectnet.OVERLAP_FILE).write_text(json.dumps(SHARED))
    for number, folder in enumerate(FOLDERS):
        (root / "images" / folder).mkdir(parents=True)
        for name in "ba":
            pixels = np.full((9, 7, 3), (255, 0, 0), np.uint8)
            pixels[2:-2, 2:-2] = np.arange(5 * 3 * 3).reshape(5, 3, 3) + number
            Image.fromarray(pixels).save(root / "images" / folder / f"{name}.png")


def read_objectnet(root: Path) -> Dataset:
    return load_dataset("objectnet", root=root)


def test_folder_without_the_layout_is_left_to_the_next_reader(tmp_path: Path) -> None:
    assert read_layout("objectnet", tmp_path) is None
    # folders of classes outside the layout
    for name in ("n0000001", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "a.JPEG").touch()
    assert read_layout("objectnet", tmp_path) is None
    dataset = load_dataset("objectnet", root=tmp_path)
    assert dataset.class_names == ("dog", "n0000001")


@pytest.mark.parametrize("folder", ["objectnet-1.0", "objectnet", "objectnet/objectnet-1.0", "."])
def test_classes_are_those_of_imagenet_and_images_have_no_border(
    tmp_path: Path, folder: str
) -> None:
    write_objectnet(tmp_path / folder)
    dataset = read_objectnet(tmp_path)
    # in the order of the folders: in that of the labels, the towel would be first
    assert dataset.class_names == ("binder_closed", "full_sized_towel", "t-shirt")
    assert dataset.prompt_names == ("binder (closed)", "bath towel", "t-shirt")
    assert [(item.image_id, item.label) for item in dataset.items] == [
        (f"{name}/{image}.png", label)
        for label, name in enumerate(dataset.class_names)
        for image in "ab"
    ]
    inside = np.arange(5 * 3 * 3).reshape(5, 3, 3)
    for item in dataset.items:
        number = list(FOLDERS).index(item.image_id.split("/")[0])
        assert np.array_equal(np.asarray(item.open()), inside + number)


def test_image_no_larger_than_its_border_is_an_error_when_opened(tmp_path: Path) -> None:
    write_objectnet(tmp_path)
    Image.new("RGB", (9, 4)).save(tmp_path / "images" / "t-shirt" / "a.png")
    dataset = read_objectnet(tmp_path)
    with pytest.raises(DataError, match=r"image is not larger than its border: \(9, 4\)"):
        dataset.items[4].open()


def test_missing_images_or_inconsistent_mappings_are_an_error(tmp_path: Path) -> None:
    root = tmp_path / "objectnet-1.0"
    write_objectnet(root)
    for path in (root / "images" / "t-shirt").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"class without images: .*t-shirt'.*unpack all parts"):
        read_objectnet(tmp_path)
    (root / "mappings" / objectnet.LABELS_FILE).write_text(json.dumps({"t-shirt": "T-shirt"}))
    with pytest.raises(DataError, match=r"are inconsistent: \['Bath towel', 'Binder \(closed\)'\]"):
        read_objectnet(tmp_path)
    repeated = {**FOLDERS, "towel": "Bath towel"}
    (root / "mappings" / objectnet.LABELS_FILE).write_text(json.dumps(repeated))
    with pytest.raises(DataError, match=r"are inconsistent: .*'full_sized_towel'.*'towel'"):
        read_objectnet(tmp_path)
    for name in (objectnet.LABELS_FILE, objectnet.OVERLAP_FILE):
        (root / "mappings" / name).unlink()
        with pytest.raises(DataError, match=rf"is missing: .*{name}"):
            read_objectnet(tmp_path)
        content = FOLDERS if name == objectnet.LABELS_FILE else SHARED
        (root / "mappings" / name).write_text(json.dumps(content))
