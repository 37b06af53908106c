"""Data sets of the Hugging Face Hub: in reach, in the cache, and neither."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_hub import COMMIT, Hub, archive, encoded, fill, parquet, serving

from diffcls.data.load import load_dataset
from diffcls.data.sources import hub, hub_snapshot
from diffcls.support import hub as hub_access
from diffcls.support.errors import DataError

TEST, TRAIN = "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"


def grays(dataset: Any) -> list[int]:
    return [int(np.asarray(item.open())[0, 0, 0]) for item in dataset.items]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub's tools, and no network."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="not in the light environment"
    )
    datasets = pytest.importorskip("datasets", reason="not in the light environment")
    folder = tmp_path / "home" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    return folder


@pytest.fixture
def online(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine that the Hub's own tools talk to."""
    from huggingface_hub import constants

    served = Hub()
    with serving(served) as here:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, here)
        monkeypatch.setattr(constants, "ENDPOINT", here)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served


# ---- in reach, and out of it -------------------------------------------------------------------


def test_only_the_files_of_the_split_are_fetched_and_then_kept(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"README.md": b"", TEST: parquet([5, 6, 7]), TRAIN: parquet([1, 2])}
    online.repositories["me/set"] = files
    dataset = load_dataset("hf:me/set")
    assert (dataset.name, dataset.split, dataset.revision) == ("hf:me/set", "test", COMMIT)
    assert grays(dataset) == [5, 6, 7]
    assert online.fetched() == {TEST}
    asked = len(online.asked)
    assert grays(load_dataset("hf:me/set")) == [5, 6, 7]
    assert len(online.asked) == asked + 1  # whether there is a newer commit
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    again = load_dataset("hf:me/set")
    assert (grays(again), again.revision) == ([5, 6, 7], COMMIT)
    with pytest.raises(DataError, match=r"no such split in the cache.*'train of me/set'.*: test$"):
        load_dataset("hf:me/set", "train")
    assert len(online.asked) == asked + 1


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_revision_is_asked_for_and_kept(
    online: Hub, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repositories["me/set"] = {TEST: parquet([5, 6, 7])}
    assert load_dataset(f"hf:me/set@{revision}").revision == COMMIT
    assert online.asked[0] == f"/api/datasets/me/set/revision/{revision}"
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    assert load_dataset(f"hf:me/set@{revision}").revision == COMMIT
    with pytest.raises(DataError, match="hf download --repo-type dataset me/set --revision v2`"):
        load_dataset("hf:me/set@v2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:me/none", r"^no such data set on the Hub: 'me/none'; see whether .*/me/none is there"),
        ("hf:me/set@v2", "^no such revision of me/set: 'v2'$"),
        ("hf:me/gated", "^this data set of the Hub is gated: 'me/gated'; accept its terms at"),
        ("hf:a/b/c", "^no id of a repository: 'a/b/c'; allowed: owner/name"),
        ("hf:@main", "^no id of a repository: ''"),
        ("hf:../x", "^no id of a repository: '../x'"),
    ],
)
def test_what_the_hub_does_not_give_is_refused(online: Hub, name: str, message: str) -> None:
    online.repositories |= {"me/set": {TEST: b""}, "me/gated": {TEST: b""}}
    online.gated.add("me/gated")
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 0], ids=["in trouble", "never answers"])
def test_cache_is_used_when_the_hub_is_no_help(
    online: Hub, cache: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffcls.support.hub.SECONDS", 0.2)
    monkeypatch.setattr(hub_snapshot, "SECONDS", 0.2)
    online.status = status
    fill(cache, "me/set", {TEST: parquet([5, 6, 7])})
    assert grays(load_dataset("hf:me/set")) == [5, 6, 7]
    assert len(online.asked) == 1  # not tried again
    with pytest.raises(DataError, match="the Hub cannot be reached"):
        load_dataset("hf:me/other")


def test_wait_for_an_answer_ends_although_what_was_called_does_not() -> None:
    with pytest.raises(TimeoutError):
        hub_access.within(0.05, threading.Event().wait)
    with pytest.raises(ZeroDivisionError):
        hub_access.within(60, lambda: 1 // 0)
    assert hub_access.within(60, lambda: 7) == 7


@pytest.mark.parametrize("name", ["pets", "hf:timm/oxford-iiit-pet"])
def test_what_is_nowhere_is_answered_with_the_ways_to_get_it(cache: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(name)
    for part in (
        "'timm/oxford-iiit-pet'",
        str(cache / "datasets--timm--oxford-iiit-pet"),
        "hf download --repo-type dataset timm/oxford-iiit-pet`",
        "HF_HOME",
        "--data-root DIR",
        "folder:PATH",
        "parquet:PATH",
    ):
        assert part in str(caught.value)
    assert caught.value.exit_status == 2


def test_cached_repository_is_read_as_the_hubs_own_library_reads_it(
    cache: Path, tmp_path: Path
) -> None:
    fill(cache, "me/set", {TEST: parquet([5, 6, 7, 9]), TRAIN: parquet([1, 2])})
    import datasets

    folder = cache / "datasets--me--set" / "snapshots" / COMMIT
    for split in ("test", "train"):
        reference = datasets.load_dataset(str(folder), split=split)
        dataset = load_dataset("hf:me/set", split)
        assert list(dataset.class_names) == reference.features["label"].names
        assert [item.label for item in dataset.items] == reference["label"][:]
        assert grays(dataset) == [int(np.asarray(image)[0, 0]) for image in reference["image"]]


# ---- which files -------------------------------------------------------------------------------


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
def test_split_is_known_by_the_path(path: str, split: str) -> None:
    assert hub.split_of(path) == split


def test_data_set_with_splits_of_its_own_is_read_by_their_names(cache: Path) -> None:
    fill(cache, "me/set", {"data/fold_1-00000-of-00001.parquet": parquet([5, 6, 7])})
    assert grays(load_dataset("hf:me/set", "fold_1")) == [5, 6, 7]


def test_food101s_test_images_are_those_called_validation(cache: Path) -> None:
    files = {"data/validation-00000-of-00001.parquet": parquet([5, 6, 7]), TRAIN: parquet([1, 2])}
    fill(cache, "ethz/food101", files)
    dataset = load_dataset("food101")
    assert (dataset.name, dataset.split, grays(dataset)) == ("food101", "test", [5, 6, 7])
    assert dataset.class_names == ("apple_pie", "beet", "cake")
    assert dataset.prompt_names == ("apple pie", "beet", "cake")


def test_the_main_one_of_several_data_sets_is_meant(cache: Path) -> None:
    two = {f"{name}/test-00000-of-00001.parquet": parquet([i, 7]) for i, name in enumerate("ab")}
    fill(cache, "me/set", two)
    with pytest.raises(DataError, match=r"me/set holds several data sets: \['a', 'b'\]"):
        load_dataset("hf:me/set")
    fill(cache, "me/set", {"default/test/0000.parquet": parquet([9, 7])})
    assert grays(load_dataset("hf:me/set")) == [9, 7]


def test_repository_with_a_part_missing_is_refused(cache: Path) -> None:
    fill(cache, "me/set", {"data/test-00001-of-00002.parquet": parquet([1, 2])})
    with pytest.raises(DataError, match="files of this split are missing"):
        load_dataset("hf:me/set")


def test_columns_are_those_of_the_row_unless_they_are_named(cache: Path) -> None:
    more = {"fine": [0, 1, 1], "image": ["one", "of", "them"]}
    names = {"label": ["a", "b", "c"], "fine": ["x", "y"]}
    fill(cache, "uoft-cs/cifar10", {TEST: parquet([5, 6, 7], names, "img", **more)})
    assert grays(load_dataset("cifar10")) == [5, 6, 7]
    assert load_dataset("cifar10").class_names == ("a", "b", "c")
    assert load_dataset("cifar10", label_column="fine").class_names == ("x", "y")
    with pytest.raises(DataError, match="no image column: 'jpg'; allowed: img, label, fine"):
        load_dataset("cifar10", image_column="jpg")


# ---- other formats -----------------------------------------------------------------------------


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


def test_archives_are_read_in_their_order_with_names_from_a_file(online: Hub) -> None:
    online.repositories[AIRCRAFT] = aircraft(11) | {"train/0.tar": b"not asked for"}
    dataset = load_dataset("aircraft")
    assert grays(dataset) == [10 * i for i in range(11)]  # 10.tar comes after 2.tar
    assert [item.label for item in dataset.items] == [i % 2 for i in range(11)]
    assert dataset.class_names == ("707-320", "A_300")
    assert dataset.prompt_names == ("707-320", "A 300")
    assert dataset.revision == COMMIT
    assert "train/0.tar" not in online.fetched()


@pytest.mark.parametrize(
    ("lost", "message"),
    [("test/1.tar", "archives of this split are missing"), ("classnames.txt", "no classnames.txt")],
)
def test_archives_or_names_that_are_missing_are_noticed(
    cache: Path, lost: str, message: str
) -> None:
    fill(cache, AIRCRAFT, {path: c for path, c in aircraft(2).items() if path != lost})
    with pytest.raises(DataError, match=message):
        load_dataset("fgvc_aircraft")


def test_what_else_the_hubs_library_reads_is_read_too(cache: Path) -> None:
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
        ({TEST: b"no table"}, "cannot read parquet file"),
    ],
    ids=["script", "empty", "archive", "table"],
)
def test_repository_without_images_is_refused_in_one_line(
    cache: Path, files: dict[str, bytes], message: str
) -> None:
    fill(cache, "me/set", files)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("hf:me/set")
    assert "\n" not in str(caught.value)


# ---- names for prompts -------------------------------------------------------------------------

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
def test_pets_have_their_species_in_the_prompt_as_published(
    cache: Path, columns: dict[str, list[Any]]
) -> None:
    fill(cache, "timm/oxford-iiit-pet", {TEST: parquet([0, 1, 2, 4], CAT_DOG, **columns)})
    dataset = load_dataset("pets")
    assert dataset.class_names == ("Abyssinian", "American Bulldog", "Shiba Inu")
    # a bulldog ends in "dog" already: published as "a photo of a American Bulldog, a type of pet."
    published = ("Abyssinian cat", "American Bulldog", "Shiba Inu dog")
    assert dataset.prompt_names == (published if columns else dataset.class_names)


def test_numbers_of_species_without_names_are_no_help_but_file_names_are(cache: Path) -> None:
    columns = {"label_cat_dog": [7, 8], "image_id": ["Abyssinian_1", "pug_1"]}
    content = parquet([0, 1], {"label": ["abyssinian", "pug"]}, **columns)
    fill(cache, "timm/oxford-iiit-pet", {TEST: content})
    assert load_dataset("pets").prompt_names == ("Abyssinian cat", "Pug dog")


def test_imagenet_has_the_names_of_its_prompts(cache: Path) -> None:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip has the names")
    place = "data/validation-00000-of-00001.parquet"
    synonyms = {"label": [f"tench, Tinca tinca {i}" for i in range(1000)]}
    fill(cache, "ILSVRC/imagenet-1k", {place: parquet([5, 6, 7], synonyms)})
    names = load_dataset("imagenet").class_names
    assert (len(names), names[0], names[-1]) == (1000, "tench", "toilet paper")
    fill(cache, "ILSVRC/imagenet-1k", {place: parquet([5, 6, 7])})
    with pytest.raises(DataError, match="not ImageNet's classes: '3 classes'"):
        load_dataset("imagenet")
