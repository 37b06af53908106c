"""Caltech-101: the categories of torchvision and of the published script, no background."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.layouts import read_images, read_layout, summary
from PIL import Image

from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts
from diffcls.support.errors import DataError, UsageError

CATEGORIES = {"accordion": 3, "Faces_easy": 2, "BACKGROUND_Google": 4, "water_lilly": 1, "Faces": 2}


def write(home: Path) -> None:
    for number, (name, count) in enumerate(CATEGORIES.items()):
        folder = home / name
        folder.mkdir(parents=True)
        for i in range(1, count + 1):
            # in bands of one gray, so that the coding changes nothing
            Image.new("RGB", (8, 8), (10 * number + i,) * 3).save(folder / f"image_{i:04d}.jpg")


def test_images_and_classes_equal_torchvisions(tmp_path: Path) -> None:
    vision = pytest.importorskip("torchvision", reason="its reader is the reference").datasets
    write(tmp_path / "caltech101" / "101_ObjectCategories")
    (tmp_path / "caltech101" / "Annotations").mkdir()
    reference = vision.Caltech101(tmp_path, target_type="category")
    dataset = read_images("caltech101", tmp_path)
    assert list(dataset.class_names) == reference.categories
    assert reference.categories == ["Faces", "Faces_easy", "accordion", "water_lilly"]
    assert [item.label for item in dataset.items] == reference.y
    assert len(dataset) == len(reference) == 8
    gray = [image.convert("RGB").getpixel((0, 0)) for image, _ in reference]
    assert gray == [item.open().getpixel((0, 0)) for item in dataset.items]


@pytest.mark.parametrize(
    "folder",
    [
        "caltech101/101_ObjectCategories",
        "caltech-101/101_ObjectCategories",
        "101_ObjectCategories",
        ".",
    ],
)
def test_root_may_be_the_folder_of_the_categories_or_a_parent(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "a" / folder)
    write(tmp_path / "b" / "101_ObjectCategories")
    dataset = read_images("caltech101", tmp_path / "a")
    assert summary(dataset) == summary(read_images("caltech101", tmp_path / "b"))
    own = load_dataset("caltech101", root=tmp_path / "a" / folder)
    assert "BACKGROUND_Google" not in own.class_names
    assert summary(own) == summary(dataset)


def test_prompts_contain_no_underscores(tmp_path: Path) -> None:
    write(tmp_path / "101_ObjectCategories")
    dataset = load_dataset("caltech101", root=tmp_path)
    prompts = build_prompts(EvaluationOptions(dataset="caltech101"), dataset)
    assert prompts.prompts[1] == "a photo of a Faces easy."
    assert prompts.prompts[3] == "a photo of a water lilly."
    assert catalog.find("caltech101").model == "sd2-base"


def test_there_is_no_training_split_as_in_the_published_script(tmp_path: Path) -> None:
    write(tmp_path / "101_ObjectCategories")
    with pytest.raises(UsageError, match="unknown split of caltech101: 'train'; allowed: test"):
        load_dataset("caltech101", "train", tmp_path)


def test_category_without_images_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "101_ObjectCategories")
    for path in (tmp_path / "101_ObjectCategories" / "Faces").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"category without images: .*Faces"):
        read_layout("caltech101", tmp_path)
