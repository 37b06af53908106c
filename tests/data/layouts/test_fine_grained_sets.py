"""Fine-grained sets of image lists: pets, Food-101, Flowers-102 and aircraft, as in torchvision."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layouts import read_layout
from PIL import Image
from scipy.io import savemat

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts
from diffcls.support.errors import DataError


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (1, 2, 3)).save(path)


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


PETS = {
    "test": ["Abyssinian_2 1 1 1", "american_bulldog_1 2 2 1", "Bengal_7 6 1 2"],
    "trainval": ["Bengal_1 6 1 2", "american_bulldog_9 2 2 1", "Abyssinian_1 1 1 1"],
}


def pets(root: Path) -> Path:
    home = root / "oxford-iiit-pet"
    for split, entries in PETS.items():
        write_lines(home / f"annotations/{split}.txt", *entries)
        for entry in entries:
            write_image(home / f"images/{entry.split()[0]}.jpg")
    write_lines(
        home / "annotations/list.txt",
        "#Image CLASS-ID SPECIES BREED ID",
        *PETS["test"],
        *PETS["trainval"],
    )
    (home / "images/Abyssinian_100.mat").write_bytes(b"stray")
    return home


def food101(root: Path) -> Path:
    home = root / "food-101"
    write_lines(home / "meta/classes.txt", "apple_pie", "baklava")
    for split, names in {"test": ["baklava/3", "apple_pie/1"], "train": ["apple_pie/2"]}.items():
        write_lines(home / f"meta/{split}.txt", *names)
        by_class: dict[str, list[str]] = {"apple_pie": [], "baklava": []}
        for name in names:
            write_image(home / f"images/{name}.jpg")
            by_class[name.split("/")[0]].append(name)
        write_lines(home / f"meta/{split}.json", json.dumps(by_class))
    return home


def fgvc_aircraft(root: Path) -> Path:
    home = root / "fgvc-aircraft-2013b"
    write_lines(home / "data/variants.txt", "707-320", "F/A-18", "Boeing 717")
    for split, names in {
        "test": ["0000002 F/A-18", "0000001 Boeing 717"],
        "trainval": ["0000003 707-320"],
    }.items():
        write_lines(home / f"data/images_variant_{split}.txt", *names)
        for name in names:
            write_image(home / f"data/images/{name.split()[0]}.jpg")
    return home


def flowers102(root: Path) -> Path:
    home = root / "flowers-102"
    home.mkdir(parents=True)
    labels = np.array([[1, 102, 3, 3]])
    savemat(home / "imagelabels.mat", {"labels": labels})
    savemat(home / "setid.mat", {"tstid": [[3, 2]], "valid": [[4]], "trnid": [[1]]})
    names = {str(i): f"flower {i}" for i in range(102, 0, -1)}
    write_lines(home / "cat_to_name.json", json.dumps(names))
    for i in range(1, 5):
        write_image(home / f"jpg/image_{i:05d}.jpg")
    return home


WRITERS: dict[str, Callable[[Path], Path]] = {
    f.__name__: f for f in (pets, food101, fgvc_aircraft, flowers102)
}


def torchvision_reader(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    datasets = pytest.importorskip("torchvision", reason="its readers are the reference").datasets
    match name:
        case "pets":
            return datasets.OxfordIIITPet(root, split="test")
        case "food101":
            return datasets.Food101(root, split="test")
        case "fgvc_aircraft":
            return datasets.FGVCAircraft(root, split="test")
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)
    return datasets.Flowers102(root, split="test")


def named(dataset: Dataset) -> set[tuple[str, str]]:
    return {(Path(i.image_id).name, dataset.class_names[i.label]) for i in dataset.items}


@pytest.mark.parametrize("name", ["food101", "fgvc_aircraft", "flowers102"])
def test_images_and_classes_equal_torchvisions(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without a file of class names, those of the flowers are torchvision's
    (WRITERS[name](tmp_path) / "cat_to_name.json").unlink(missing_ok=True)
    reference = torchvision_reader(name, tmp_path, monkeypatch)
    dataset = load_dataset(name, "test", tmp_path)
    # three flowers have the names of the published prompts
    synonyms = catalog.find(name).synonyms
    assert list(dataset.class_names) == [synonyms.get(c, c) for c in reference.classes]
    labels = [int(label) for label in reference._labels]
    files = [Path(path).name for path in reference._image_files]
    expected = {(f, dataset.class_names[k]) for f, k in zip(files, labels, strict=True)}
    assert expected == named(dataset)
    assert len(dataset) == len(files)


def test_classes_of_a_partial_copy_of_pets_are_those_of_its_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets(tmp_path)
    dataset = load_dataset("pets", "test", tmp_path)
    # torchvision's reader labels these 0, 1 and 5 although there are three classes
    reference = torchvision_reader("pets", tmp_path, monkeypatch)
    assert (
        list(dataset.class_names)
        == reference.classes
        == ["Abyssinian", "American Bulldog", "Bengal"]
    )
    assert [item.label for item in dataset.items] == [0, 1, 2]
    assert [item.image_id for item in dataset.items] == [
        "images/Abyssinian_2.jpg",
        "images/american_bulldog_1.jpg",
        "images/Bengal_7.jpg",
    ]
    train = read_layout("pets", tmp_path, "train")
    assert train is not None and train.class_names == dataset.class_names


def test_prompts_of_pets_are_the_published_ones(tmp_path: Path) -> None:
    pets(tmp_path)
    dataset = load_dataset("pets", "test", tmp_path)
    templates = catalog.find("pets").templates
    prompts = PromptSet.from_templates(dataset.class_names, templates, dataset.prompt_names)
    assert prompts.prompts == (
        "a photo of a Abyssinian cat, a type of pet.",
        "a photo of a American Bulldog, a type of pet.",
        "a photo of a Bengal cat, a type of pet.",
    )


def test_prompt_names_of_food_contain_no_underscores(tmp_path: Path) -> None:
    food101(tmp_path)
    dataset = load_dataset("food101", "test", tmp_path)
    assert dataset.class_names == ("apple_pie", "baklava")
    assert dataset.prompt_names == ("apple pie", "baklava")


def test_splits_of_flowers_are_those_of_the_archive(tmp_path: Path) -> None:
    flowers102(tmp_path)
    ids = {
        split: [item.image_id for item in load_dataset("flowers102", split, tmp_path).items]
        for split in ("test", "validation", "train")
    }
    assert ids == {
        "test": ["jpg/image_00003.jpg", "jpg/image_00002.jpg"],
        "validation": ["jpg/image_00004.jpg"],
        "train": ["jpg/image_00001.jpg"],
    }


def test_class_names_of_flowers_are_read_from_a_file_if_there_is_one(tmp_path: Path) -> None:
    flowers102(tmp_path)
    dataset = load_dataset("flowers102", "test", tmp_path)
    assert dataset.class_names == tuple(f"flower {i}" for i in range(1, 103))


OTHER_SPELLINGS = {15: "globe-flower", 59: "pink-yellow dahlia?", 92: "ball moss"}
PUBLISHED = {15: "globe flower", 59: "pink and yellow dahlia", 92: "air plant"}


def flowers_with(root: Path, names: dict[int, str]) -> Dataset:
    home = flowers102(root)
    named = {str(k + 1): names.get(k, f"flower {k}") for k in range(102)}
    write_lines(home / "cat_to_name.json", json.dumps(named))
    return load_dataset("flowers102", "test", root)


@pytest.mark.parametrize(
    "spellings",
    [OTHER_SPELLINGS, OTHER_SPELLINGS | {59: "pink-yellow dahlia"}, PUBLISHED],
)
def test_three_flowers_have_the_published_names_whatever_the_copys_spelling(
    spellings: dict[int, str], tmp_path: Path
) -> None:
    dataset = flowers_with(tmp_path, spellings)
    assert {k: dataset.class_names[k] for k in PUBLISHED} == PUBLISHED
    assert dataset.class_names[14] == "flower 14"


@pytest.mark.parametrize("spellings", [OTHER_SPELLINGS, PUBLISHED])
def test_prompts_in_either_spelling_are_joined_and_another_order_is_refused(
    spellings: dict[int, str], tmp_path: Path
) -> None:
    flowers_with(tmp_path, {})
    options = EvaluationOptions(
        dataset="flowers", data_root=str(tmp_path), prompts=str(tmp_path / "p.csv")
    )
    names = {k: spellings.get(k, f"flower {k}") for k in range(102)}
    dataset = flowers_with(tmp_path / "named", spellings)
    rows = [f"the {name},{name},{k}" for k, name in names.items()]
    write_lines(tmp_path / "p.csv", "prompt,classname,classidx", *rows)
    prompts = build_prompts(options, dataset)
    assert prompts.prompts[92] == f"the {spellings[92]}"
    assert prompts.class_names[92] == "air plant"
    swapped = names | {15: names[92], 92: names[15]}
    rows = [f"the {name},{name},{k}" for k, name in swapped.items()]
    write_lines(tmp_path / "p.csv", "prompt,classname,classidx", *rows)
    with pytest.raises(DataError, match="classname of classidx 15 differs from the data set's"):
        build_prompts(options, dataset)


def test_class_names_of_flowers_require_a_file_or_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (flowers102(tmp_path) / "cat_to_name.json").unlink()
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    message = r"Flowers-102 require torchvision.*allowed: a cat_to_name.json in .*; pip install"
    with pytest.raises(DataError, match=message):
        load_dataset("flowers102", "test", tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_root_may_be_the_data_sets_own_folder_or_its_parent(name: str, tmp_path: Path) -> None:
    home = WRITERS[name](tmp_path)
    parent, own = load_dataset(name, "test", tmp_path), load_dataset(name, "test", home)
    assert [i.image_id for i in parent.items] == [i.image_id for i in own.items]
    assert parent.revision == own.revision and parent.name == own.name == name
    assert len({i.image_id for i in own.items}) == len(own)
    assert all(item.open().size == (9, 7) for item in own.items)


@pytest.mark.parametrize("name", WRITERS)
def test_folder_without_the_layout_is_not_recognised(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no {name} found"):
        load_dataset(name, "test", tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_lists_without_any_image_are_an_error(name: str, tmp_path: Path) -> None:
    home = WRITERS[name](tmp_path)
    for path in home.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"none of the listed images found: .*; unpack .* again"):
        load_dataset(name, "test", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "lines", "message"),
    [
        ("pets", "annotations/test.txt", ["Abyssinian_1 one 1 1"], "malformed line of a list"),
        (
            "pets",
            "annotations/test.txt",
            ["Abyssinian_1 1 3 1"],
            "malformed line of a.*2 for dogs",
        ),
        ("pets", "annotations/test.txt", ["Abyssinian_1 1"], "malformed line of a list"),
        ("food101", "meta/test.txt", ["waffles/1"], "list names unknown classes.*waffles"),
        (
            "fgvc_aircraft",
            "data/images_variant_test.txt",
            ["1 Concorde"],
            "names an unknown variant",
        ),
        ("flowers102", "setid.mat", ["nothing"], "cannot read a file of the data set"),
    ],
)
def test_malformed_list_is_an_error(
    name: str, file: str, lines: list[str], message: str, tmp_path: Path
) -> None:
    home = WRITERS[name](tmp_path)
    write_lines(home / file, *lines)
    with pytest.raises(DataError, match=message):
        load_dataset(name, "test", tmp_path)


def test_split_of_flowers_beyond_the_labels_is_an_error(tmp_path: Path) -> None:
    home = flowers102(tmp_path)
    savemat(home / "setid.mat", {"tstid": [[9]], "valid": [[1]], "trnid": [[1]]})
    with pytest.raises(DataError, match=r"are inconsistent.*9 of 4"):
        load_dataset("flowers102", "test", tmp_path)
