"""Data sets of the Hub: files of a split, formats, class names and prompts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.parquet_files import grays
from helpers.small_hub import COMMIT, TEST_FILE, TRAIN_FILE, Hub, archive, encoded, fill, parquet

from diffcls.data.load import load_dataset
from diffcls.data.sources import hub_files
from diffcls.support.errors import DataError

# ---- files of a split ----------------------------------------------------------------------------


def test_repository_is_read_as_by_the_library_datasets(cache: Path, tmp_path: Path) -> None:
    fill(cache, "me/set", {TEST_FILE: parquet([5, 6, 7, 9]), TRAIN_FILE: parquet([1, 2])})
    import datasets

    folder = cache / "datasets--me--set" / "snapshots" / COMMIT
    for split in ("test", "train"):
        reference = datasets.load_dataset(str(folder), split=split)
        dataset = load_dataset("hf:me/set", split)
        assert list(dataset.class_names) == reference.features["label"].names
        assert [item.label for item in dataset.items] == reference["label"][:]
        assert grays(dataset) == [int(np.asarray(image)[0, 0]) for image in reference["image"]]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/test-00000-of-00006.parquet", "test"),
        ("data/train-00000-of-00001-b5a1c2d3e4f50617.parquet", "train"),
        ("plain_text/validation-00001-of-00014.parquet", "validation"),
        ("data/val-00000-of-00001.parquet", "validation"),
        ("default/test/0000.parquet", "test"),
        ("test/part-00000-of-00002.parquet", "test"),
        ("valid.parquet", "validation"),
        ("data/fold_1-00000-of-00001.parquet", "fold_1"),
        ("test/0.tar", "test"),
        ("everything.parquet", ""),
    ],
)
def test_split_of_a_file_is_detected_from_its_path(path: str, split: str) -> None:
    assert hub_files.split_of(path) == split


def test_splits_may_have_any_name(cache: Path) -> None:
    fill(cache, "me/set", {"data/fold_1-00000-of-00001.parquet": parquet([5, 6, 7])})
    assert grays(load_dataset("hf:me/set", "fold_1")) == [5, 6, 7]


def test_test_split_of_food101_is_the_repositorys_validation_split(cache: Path) -> None:
    files = {
        "data/validation-00000-of-00001.parquet": parquet([5, 6, 7]),
        TRAIN_FILE: parquet([1, 2]),
    }
    fill(cache, "ethz/food101", files)
    dataset = load_dataset("food101")
    assert (dataset.name, dataset.split, grays(dataset)) == ("food101", "test", [5, 6, 7])
    assert dataset.class_names == ("apple_pie", "beet", "cake")
    assert dataset.prompt_names == ("apple pie", "beet", "cake")


def test_default_configuration_is_read_and_several_others_are_an_error(cache: Path) -> None:
    two = {f"{name}/test-00000-of-00001.parquet": parquet([i, 7]) for i, name in enumerate("ab")}
    fill(cache, "me/set", two)
    with pytest.raises(DataError, match=r"me/set contains several data sets: \['a', 'b'\]"):
        load_dataset("hf:me/set")
    fill(cache, "me/set", {"default/test/0000.parquet": parquet([9, 7])})
    assert grays(load_dataset("hf:me/set")) == [9, 7]


def test_missing_shard_is_an_error(cache: Path) -> None:
    fill(cache, "me/set", {"data/test-00001-of-00002.parquet": parquet([1, 2])})
    with pytest.raises(DataError, match="files of this split are missing"):
        load_dataset("hf:me/set")


def test_columns_are_those_of_the_catalog_unless_given(cache: Path) -> None:
    more = {"fine": [0, 1, 1], "image": ["one", "of", "them"]}
    names = {"label": ["a", "b", "c"], "fine": ["x", "y"]}
    fill(cache, "uoft-cs/cifar10", {TEST_FILE: parquet([5, 6, 7], names, "img", **more)})
    assert grays(load_dataset("cifar10")) == [5, 6, 7]
    assert load_dataset("cifar10").class_names == ("a", "b", "c")
    assert load_dataset("cifar10", label_column="fine").class_names == ("x", "y")
    with pytest.raises(DataError, match="column not found: 'jpg'; allowed: img, label, fine"):
        load_dataset("cifar10", image_column="jpg")


# ---- other formats -------------------------------------------------------------------------------


AIRCRAFT = "clip-benchmark/wds_fgvc_aircraft"


def aircraft(shards: int) -> dict[str, bytes]:
    files = {
        f"test/{i}.tar": archive(
            {f"s{i}.webp": encoded(10 * i, "WEBP"), f"s{i}.cls": str(i % 2).encode()}
        )
        for i in range(shards)
    }
    counts = {"test/nshards.txt": f"{shards}\n".encode()}
    return files | counts | {"classnames.txt": b"707-320\nA_300\n"}


def test_archives_are_read_in_natural_order_with_class_names_from_a_file(online: Hub) -> None:
    online.repositories[AIRCRAFT] = aircraft(11) | {"train/0.tar": b"another split"}
    dataset = load_dataset("aircraft")
    assert grays(dataset) == [10 * i for i in range(11)]  # 10.tar after 2.tar
    assert [item.label for item in dataset.items] == [i % 2 for i in range(11)]
    assert dataset.class_names == ("707-320", "A_300")
    assert dataset.prompt_names == ("707-320", "A 300")
    assert dataset.revision == COMMIT
    assert "train/0.tar" not in online.fetched()


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("test/1.tar", "archives of this split"),
        ("classnames.txt", "lacks classnames.txt"),
    ],
)
def test_missing_archive_or_file_of_class_names_is_an_error(
    cache: Path, lost: str, message: str
) -> None:
    fill(cache, AIRCRAFT, {path: c for path, c in aircraft(2).items() if path != lost})
    with pytest.raises(DataError, match=message):
        load_dataset("fgvc_aircraft")


def test_other_formats_are_read_by_the_library_datasets(cache: Path) -> None:
    files = {f"test/{n}/{i}.png": encoded(10 * i) for i, n in enumerate(("cat", "dog"))}
    fill(cache, "me/set", files | {"test/cat/broken.png": b"no image"})
    dataset = load_dataset("hf:me/set")
    assert dataset.class_names == ("cat", "dog")
    assert [item.label for item in dataset.items] == [0, 0, 1]
    assert [item.image_id for item in dataset.items] == ["test/0", "test/1", "test/2"]
    first, broken, last = dataset.items
    assert grays(dataset.take([0, 2])) == [0, 10] and first is not last
    with pytest.raises(DataError, match="cannot read image"):
        broken.open()
    with pytest.raises(DataError, match=r"cannot read split 'train' .*Unknown split"):
        load_dataset("hf:me/set", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"set.py": b"raise SystemExit"}, "is a script.*hf:me/set@refs/convert/parquet"),
        ({"README.md": b"nothing"}, "cannot read split 'test'"),
        ({"test/0.tar": b"no archive"}, "cannot read split 'test'"),
        ({TEST_FILE: b"no table"}, "cannot read parquet file"),
    ],
    ids=["script", "empty", "archive", "table"],
)
def test_repository_without_images_is_an_error_of_one_line(
    cache: Path, files: dict[str, bytes], message: str
) -> None:
    fill(cache, "me/set", files)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("hf:me/set")
    assert "\n" not in str(caught.value)


# ---- names for prompts ---------------------------------------------------------------------------

CAT_DOG = {
    "label": ["Abyssinian", "american_bulldog", "shiba_inu"],
    "label_cat_dog": ["cat", "dog"],
}


@pytest.mark.parametrize(
    "columns",
    [
        {"label_cat_dog": [0, 1, 1, 1]},
        {"label_cat_dog": ["cat", "dog", "dog", "dog"]},
        {"image_id": ["Abyssinian_1", "american_bulldog_1", "shiba_inu_1", "american_bulldog_2"]},
        {},
    ],
    ids=["numbers", "texts", "files", "neither"],
)
def test_prompts_of_pets_contain_the_species_as_published(
    cache: Path, columns: dict[str, list[Any]]
) -> None:
    fill(cache, "timm/oxford-iiit-pet", {TEST_FILE: parquet([0, 1, 2, 4], CAT_DOG, **columns)})
    dataset = load_dataset("pets")
    assert dataset.class_names == ("Abyssinian", "American Bulldog", "Shiba Inu")
    # "Bulldog" already ends with "dog", so the published prompt has no second one
    published = ("Abyssinian cat", "American Bulldog", "Shiba Inu dog")
    assert dataset.prompt_names == (published if columns else dataset.class_names)


def test_species_are_read_from_file_names_if_their_column_has_no_class_names(cache: Path) -> None:
    columns = {"label_cat_dog": [7, 8], "image_id": ["Abyssinian_1", "pug_1"]}
    content = parquet([0, 1], {"label": ["abyssinian", "pug"]}, **columns)
    fill(cache, "timm/oxford-iiit-pet", {TEST_FILE: content})
    assert load_dataset("pets").prompt_names == ("Abyssinian cat", "Pug dog")


def test_class_names_of_imagenet_are_clips(cache: Path) -> None:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("the names require open_clip")
    name = "data/validation-00000-of-00001.parquet"
    synonyms = {"label": [f"tench, Tinca tinca {i}" for i in range(1000)]}
    fill(cache, "ILSVRC/imagenet-1k", {name: parquet([5, 6, 7], synonyms)})
    names = load_dataset("imagenet").class_names
    assert (len(names), names[0], names[-1]) == (1000, "tench", "toilet paper")
    fill(cache, "ILSVRC/imagenet-1k", {name: parquet([5, 6, 7])})
    with pytest.raises(DataError, match="not those of ImageNet: '3 classes'; allowed: 1000"):
        load_dataset("imagenet")
