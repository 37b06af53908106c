"""ImageNet and ObjectNet, read as their makers lay them out on a disk: one folder a class."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.layouts import imagenet, objectnet
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError

IDS = [f"n{i:08d}" for i in range(10, 3010, 3)]
NAMES = tuple(f"thing {i}" for i in range(1000))
LIST = "LOC_synset_mapping.txt"
INDEX = "imagenet_class_index.json"


def read_imagenet(root: Path, split: str = "test") -> Dataset:
    dataset = imagenet.load(catalog.Query(catalog.find("imagenet"), split, root))
    assert dataset is not None
    return dataset


def found(dataset: Dataset) -> list[tuple[str, str]]:
    """The images with the names of their classes."""
    return [(item.image_id, dataset.class_names[item.label]) for item in dataset.items]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_list(path: Path, ids: list[str]) -> None:
    if path.name == LIST:
        path.write_text("".join(f"{name} tench, Tinca tinca\n" for name in ids))
    else:
        pairs = {str(i): [name, "tench"] for i, name in reversed(list(enumerate(ids)))}
        path.write_text(json.dumps(pairs))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "class_names", lambda: NAMES)


@pytest.mark.parametrize("name", ["imagenet", "objectnet"])
def test_folder_without_the_layout_is_left_to_the_next_reader(tmp_path: Path, name: str) -> None:
    query = catalog.Query(catalog.find(name), "test", tmp_path)
    load = {"imagenet": imagenet.load, "objectnet": objectnet.load}[name]
    assert load(query) is None
    # one letter short of a WordNet id
    touch(tmp_path / "val" / "n0000001" / "a.JPEG", tmp_path / "val" / "dog" / "b.JPEG")
    assert load(query) is None
    dataset = load_dataset(name, root=tmp_path)
    assert dataset.class_names == ("dog", "n0000001")


# ---- ImageNet ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("named")
def test_all_thousand_folders_need_no_list(tmp_path: Path) -> None:
    touch(*(tmp_path / "val" / name / f"{name}_1.JPEG" for name in reversed(IDS)))
    dataset = read_imagenet(tmp_path)
    assert dataset.class_names == NAMES
    assert found(dataset) == [(f"{w}/{w}_1.JPEG", n) for w, n in zip(IDS, NAMES, strict=True)]
    (tmp_path / "val" / IDS[5] / f"{IDS[5]}_1.JPEG").unlink()  # its class stays a candidate
    fewer = read_imagenet(tmp_path)
    assert (len(fewer), fewer.class_names) == (999, NAMES)
    # with a list, the folders are asked for there
    write_list(tmp_path / LIST, [*IDS[:-1], "n99999999"])
    with pytest.raises(DataError, match=rf"folders of no class in .*{LIST}: \['{IDS[-1]}'\]"):
        read_imagenet(tmp_path)


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("listing", [LIST, INDEX])
@pytest.mark.parametrize(
    "place", ["val", "validation", "test", ".", "imagenet/val", "ILSVRC/Data/CLS-LOC/val"]
)
def test_few_folders_are_named_by_their_place_among_all(
    tmp_path: Path, place: str, listing: str
) -> None:
    base = tmp_path / place
    touch(
        base / IDS[700] / "b.JPEG",
        base / IDS[20] / "z.JPEG",
        base / IDS[20] / "a.jpg",
        base / IDS[20] / "boxes.xml",
        base / ".cache" / "c.JPEG",
    )
    write_list(tmp_path / listing, IDS)
    dataset = read_imagenet(tmp_path)
    assert dataset.class_names == ("thing 20", "thing 700")
    assert found(dataset) == [
        (f"{IDS[20]}/a.jpg", "thing 20"),
        (f"{IDS[20]}/z.JPEG", "thing 20"),
        (f"{IDS[700]}/b.JPEG", "thing 700"),
    ]
    # the folder of the split itself, its list one above
    if base != tmp_path:
        write_list(base.parent / listing, IDS)
    own = read_imagenet(base)
    assert (found(own), own.revision) == (found(dataset), dataset.revision)


@pytest.mark.usefixtures("named")
def test_splits_of_imagenet_are_not_mixed_up(tmp_path: Path) -> None:
    write_list(tmp_path / LIST, IDS)
    for i, split in enumerate(("train", "val")):
        touch(*(tmp_path / split / name / f"{split}.JPEG" for name in IDS[i : i + 2]))
    for split, folder, first in (("train", "train", 0), ("test", "val", 1)):
        dataset = read_imagenet(tmp_path, split)
        assert dataset.split == split
        assert dataset.class_names == NAMES[first : first + 2]
        assert {item.image_id.split("/")[1] for item in dataset.items} == {f"{folder}.JPEG"}


@pytest.mark.usefixtures("named")
def test_few_folders_without_a_list_are_refused(tmp_path: Path) -> None:
    touch(*(tmp_path / "val" / name / "a.JPEG" for name in IDS[:3]))
    with pytest.raises(DataError, match=rf"3 folders in .*val'; allowed: 1000 .*{LIST}, {INDEX}"):
        load_dataset("imagenet", root=tmp_path)


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("listing", [LIST, INDEX])
@pytest.mark.parametrize(
    "ids",
    [
        [],
        IDS[:-1],
        [IDS[1], IDS[0], *IDS[2:]],  # the development kit's order is another one
        [*IDS[:-1], IDS[-2]],
        [*IDS[:-1], "zebra"],
    ],
)
def test_list_of_other_classes_is_refused(tmp_path: Path, listing: str, ids: list[str]) -> None:
    touch(*(tmp_path / "val" / name / "a.JPEG" for name in IDS[:3]))
    write_list(tmp_path / listing, ids)
    with pytest.raises(DataError, match=f"not the list of ImageNet's classes: .*{listing}"):
        read_imagenet(tmp_path)


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("text", ["[]", "{", '{"0": 3}', '{"0": []}', '{"tench": ["n01440764"]}'])
def test_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    touch(*(tmp_path / "val" / name / "a.JPEG" for name in IDS[:3]))
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(DataError, match=INDEX):
        read_imagenet(tmp_path)


@pytest.mark.parametrize("folder", ["val", "imagenet/val", "ILSVRC/Data/CLS-LOC/val", "."])
def test_images_side_by_side_are_refused(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / folder / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match=r"without the folders of their classes.*LOC_val_solution"):
        load_dataset("imagenet", root=tmp_path)


def test_names_of_imagenet_are_clips_and_no_torch_is_loaded() -> None:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("the names are open_clip's")
    names = imagenet.class_names()
    assert len(names) == 1000
    assert (names[0], names[999]) == ("tench", "toilet paper")
    twice = {name: n for name, n in Counter(names).items() if n > 1}
    assert twice == {"missile": 2, "sunglasses": 2}
    script = (
        "import sys; from diffcls.data.layouts import imagenet; imagenet.class_names(); "
        "sys.exit(bool({'torch', 'open_clip'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Another open_clip."""
    package = tmp_path / "open_clip"
    touch(package / "__init__.py")
    (package / "zero_shot_metadata.py").write_text(source)
    (package / "table.py").write_text(f"NAMES = {list(NAMES)}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)


def test_names_are_read_as_a_part_of_the_package_where_they_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, "from .table import NAMES as IMAGENET_CLASSNAMES")
    try:
        assert imagenet.class_names() == NAMES
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
            del sys.modules[name]


@pytest.mark.parametrize("source", ["", "IMAGENET_CLASSNAMES = ['tench']", "import no_such_module"])
def test_open_clip_without_the_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    pretend(tmp_path, monkeypatch, source)
    try:
        with pytest.raises(DataError, match=r'lacks them; pip install "diffcls\[clip\]"'):
            imagenet.class_names()
    finally:
        sys.modules.pop("open_clip", None)


def test_names_of_imagenet_need_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(DataError, match=r'not installed.*pip install "diffcls\[clip\]"'):
        imagenet.class_names()


# ---- ObjectNet ---------------------------------------------------------------------------------

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


@pytest.mark.parametrize("folder", ["objectnet-1.0", "objectnet", "objectnet/objectnet-1.0", "."])
def test_objectnet_is_the_classes_of_imagenet_without_borders(tmp_path: Path, folder: str) -> None:
    write_objectnet(tmp_path / folder)
    dataset = read_objectnet(tmp_path)
    # by folder: by label, the towel would come first
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


def test_image_that_is_all_border_is_refused_when_opened(tmp_path: Path) -> None:
    write_objectnet(tmp_path)
    Image.new("RGB", (9, 4)).save(tmp_path / "images" / "t-shirt" / "a.png")
    dataset = read_objectnet(tmp_path)
    with pytest.raises(DataError, match=r"image smaller than its border: \(9, 4\)"):
        dataset.items[4].open()


def test_objectnet_with_parts_missing_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "objectnet-1.0"
    write_objectnet(root)
    for path in (root / "images" / "t-shirt").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no image of a class: .*t-shirt'.*unpack all parts"):
        read_objectnet(tmp_path)
    (root / "mappings" / objectnet.LABELS_FILE).write_text(json.dumps({"t-shirt": "T-shirt"}))
    with pytest.raises(DataError, match=r"not fit together: \['Bath towel', 'Binder \(closed\)'\]"):
        read_objectnet(tmp_path)
    twice = {**FOLDERS, "towel": "Bath towel"}
    (root / "mappings" / objectnet.LABELS_FILE).write_text(json.dumps(twice))
    with pytest.raises(DataError, match=r"not fit together: .*'full_sized_towel'.*'towel'"):
        read_objectnet(tmp_path)
    for name in (objectnet.LABELS_FILE, objectnet.OVERLAP_FILE):
        (root / "mappings" / name).unlink()
        with pytest.raises(DataError, match=rf"is missing: .*{name}"):
            read_objectnet(tmp_path)
        write = FOLDERS if name == objectnet.LABELS_FILE else SHARED
        (root / "mappings" / name).write_text(json.dumps(write))
