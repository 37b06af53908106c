"""Class folders: order, names, links, and folders that are not classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.datasets import ids
from helpers.image_folders import in_folders, tree

from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.support.errors import DataError, UsageError


@pytest.mark.parametrize(
    "folders",
    [("fold1", "fold2"), ("images", "masks"), ("seg_a/seg_a", "seg_b/seg_b"), ("2019", "2020")],
)
def test_folders_that_contain_the_same_classes_are_not_classes(
    tmp_path: Path, folders: tuple[str, str]
) -> None:
    name = tree(tmp_path, in_folders(*folders))
    with pytest.raises(DataError, match=r"are not classes: .* both contain cat, dog, owl"):
        load_dataset(name)


def test_classes_that_contain_splits_are_refused(tmp_path: Path) -> None:
    name = tree(tmp_path, ["cat/train/1.png", "cat/test/2.png", "dog/train/1.png"])
    with pytest.raises(DataError, match=r"are not classes: .* both contain train"):
        load_dataset(name)


def test_one_folder_in_every_class_is_no_split(tmp_path: Path) -> None:
    # as in Tiny ImageNet
    name = tree(tmp_path, ["n01/images/1.png", "n02/images/1.png", "n02/more/2.png"])
    assert load_dataset(name).class_names == ("n01", "n02")


def test_single_class_names_the_folder_that_may_be_meant(tmp_path: Path) -> None:
    name = tree(tmp_path, in_folders("data"))
    with pytest.raises(DataError, match=r"two classes or more.*did you mean folder:.*data\?"):
        load_dataset(name)


def test_whole_numbers_are_classes_in_the_order_of_their_values(tmp_path: Path) -> None:
    numbers = [str(i) for i in range(1, 12)]
    name = tree(tmp_path, [f"{number}/1.png" for number in numbers])
    data = load_dataset(name)
    assert list(data.class_names) == numbers
    assert [data.class_names[item.label] for item in data.items] == numbers
    (tmp_path / "annotations").mkdir()  # no class, so of no effect on the order
    assert list(load_dataset(name).class_names) == numbers
    tree(tmp_path, ["a/1.png"])
    assert list(load_dataset(name).class_names) == sorted([*numbers, "a"])


def test_folder_names_become_words_in_prompts_only(tmp_path: Path) -> None:
    data = load_dataset(tree(tmp_path, ["american_bulldog/1.png", "cat/1.png"]))
    assert data.class_names == ("american_bulldog", "cat")
    assert data.prompt_names == ("american bulldog", "cat")
    prompts = PromptSet.from_templates(data.class_names, ("a {}.",), data.prompt_names)
    assert prompts.prompts == ("a american bulldog.", "a cat.")


@pytest.mark.parametrize(
    "names",
    [("Cat", "cat "), ("red_panda", "red panda"), ("caf\u00e9", "cafe\u0301"), ("A_b", "a b")],
)
def test_folders_that_are_the_same_in_a_prompt_are_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    name = tree(tmp_path, [f"{folder}/1.png" for folder in (*names, "owl")])
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("the file system does not distinguish these names")
    with pytest.raises(UsageError, match="duplicate class names"):
        load_dataset(name)


def test_two_links_to_one_folder_are_not_two_classes(tmp_path: Path) -> None:
    name = tree(tmp_path / "set", ["cat/1.png", "dog/1.png"])
    (tmp_path / "set" / "kitten").symlink_to(tmp_path / "set" / "cat")
    with pytest.raises(DataError, match=r"links to the same folder: \['cat', 'kitten'\]"):
        load_dataset(name)


def test_link_from_one_class_to_another_gives_no_image_two_labels(tmp_path: Path) -> None:
    name = tree(tmp_path / "set", ["cat/1.png", "dog/1.png"])
    (tmp_path / "set" / "cat" / "friend").symlink_to(tmp_path / "set" / "dog")
    data = load_dataset(name)
    assert ids(data) == ["cat/1.png", "dog/1.png"]
    assert data.passed_over == {"links to folders that are read already": 1}
