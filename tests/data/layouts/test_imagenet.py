"""ImageNet: one folder per WordNet id, class names from CLIP's list."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.layouts import read_images, read_layout

from diffcls.data.dataset import Dataset
from diffcls.data.layouts import imagenet
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError

IDS = [f"n{i:08d}" for i in range(10, 3010, 3)]
NAMES = tuple(f"thing {i}" for i in range(1000))
LIST = "LOC_synset_mapping.txt"
INDEX = "imagenet_class_index.json"


def read_imagenet(root: Path, split: str = "test") -> Dataset:
    return read_images("imagenet", root, split)


def named_images(dataset: Dataset) -> list[tuple[str, str]]:
    """Image id and class name of each image."""
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


def test_folder_without_the_layout_is_left_to_the_next_reader(tmp_path: Path) -> None:
    assert read_layout("imagenet", tmp_path) is None
    # one digit short of a WordNet id
    touch(tmp_path / "val" / "n0000001" / "a.JPEG", tmp_path / "val" / "dog" / "b.JPEG")
    assert read_layout("imagenet", tmp_path) is None
    dataset = load_dataset("imagenet", root=tmp_path)
    assert dataset.class_names == ("dog", "n0000001")


@pytest.mark.usefixtures("named")
def test_1000_folders_need_no_mapping_file(tmp_path: Path) -> None:
    touch(*(tmp_path / "val" / name / f"{name}_1.JPEG" for name in reversed(IDS)))
    dataset = read_imagenet(tmp_path)
    assert dataset.class_names == NAMES
    assert named_images(dataset) == [
        (f"{w}/{w}_1.JPEG", n) for w, n in zip(IDS, NAMES, strict=True)
    ]
    (tmp_path / "val" / IDS[5] / f"{IDS[5]}_1.JPEG").unlink()  # its class remains a candidate
    fewer = read_imagenet(tmp_path)
    assert (len(fewer), fewer.class_names) == (999, NAMES)
    # a mapping file must contain all folders
    write_list(tmp_path / LIST, [*IDS[:-1], "n99999999"])
    with pytest.raises(DataError, match=rf"folders are not classes of .*{LIST}: \['{IDS[-1]}'\]"):
        read_imagenet(tmp_path)


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("listing", [LIST, INDEX])
@pytest.mark.parametrize(
    "place", ["val", "validation", "test", ".", "imagenet/val", "ILSVRC/Data/CLS-LOC/val"]
)
def test_fewer_folders_are_named_by_the_mapping_file(
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
    assert named_images(dataset) == [
        (f"{IDS[20]}/a.jpg", "thing 20"),
        (f"{IDS[20]}/z.JPEG", "thing 20"),
        (f"{IDS[700]}/b.JPEG", "thing 700"),
    ]
    # the root may be the folder of the split, with the mapping file in its parent
    if base != tmp_path:
        write_list(base.parent / listing, IDS)
    own = read_imagenet(base)
    assert (named_images(own), own.revision) == (named_images(dataset), dataset.revision)


@pytest.mark.usefixtures("named")
def test_each_split_is_read_from_its_own_folder(tmp_path: Path) -> None:
    write_list(tmp_path / LIST, IDS)
    for i, split in enumerate(("train", "val")):
        touch(*(tmp_path / split / name / f"{split}.JPEG" for name in IDS[i : i + 2]))
    for split, folder, first in (("train", "train", 0), ("test", "val", 1)):
        dataset = read_imagenet(tmp_path, split)
        assert dataset.split == split
        assert dataset.class_names == NAMES[first : first + 2]
        assert {item.image_id.split("/")[1] for item in dataset.items} == {f"{folder}.JPEG"}


@pytest.mark.usefixtures("named")
def test_fewer_folders_without_a_mapping_file_are_an_error(tmp_path: Path) -> None:
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
        [IDS[1], IDS[0], *IDS[2:]],  # another order, such as the development kit's
        [*IDS[:-1], IDS[-2]],
        [*IDS[:-1], "zebra"],
    ],
)
def test_mapping_file_of_other_classes_is_an_error(
    tmp_path: Path, listing: str, ids: list[str]
) -> None:
    touch(*(tmp_path / "val" / name / "a.JPEG" for name in IDS[:3]))
    write_list(tmp_path / listing, ids)
    with pytest.raises(DataError, match=f"file is not the list of ImageNet's classes: .*{listing}"):
        read_imagenet(tmp_path)


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("text", ["[]", "{", '{"0": 3}', '{"0": []}', '{"tench": ["n01440764"]}'])
def test_malformed_class_index_is_an_error(tmp_path: Path, text: str) -> None:
    touch(*(tmp_path / "val" / name / "a.JPEG" for name in IDS[:3]))
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(DataError, match=INDEX):
        read_imagenet(tmp_path)


@pytest.mark.parametrize("folder", ["val", "imagenet/val", "ILSVRC/Data/CLS-LOC/val", "."])
def test_images_without_class_folders_are_an_error(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / folder / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match=r"not in folders per class.*LOC_val_solution"):
        load_dataset("imagenet", root=tmp_path)


def test_class_names_are_clips_and_load_no_torch() -> None:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("the names require open_clip")
    names = imagenet.class_names()
    assert len(names) == 1000
    assert (names[0], names[999]) == ("tench", "toilet paper")
    repeated = {name: n for name, n in Counter(names).items() if n > 1}
    assert repeated == {"missile": 2, "sunglasses": 2}
    script = (
        "import sys; from diffcls.data.layouts import imagenet; imagenet.class_names(); "
        "sys.exit(bool({'torch', 'open_clip'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def install_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A stand-in for open_clip, whose list of names is `source`."""
    package = tmp_path / "open_clip"
    touch(package / "__init__.py")
    (package / "zero_shot_metadata.py").write_text(source)
    (package / "table.py").write_text(f"NAMES = {list(NAMES)}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)


def test_class_names_that_import_their_package_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_open_clip(tmp_path, monkeypatch, "from .table import NAMES as IMAGENET_CLASSNAMES")
    try:
        assert imagenet.class_names() == NAMES
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
            del sys.modules[name]


@pytest.mark.parametrize("source", ["", "IMAGENET_CLASSNAMES = ['tench']", "import no_such_module"])
def test_open_clip_without_the_class_names_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    install_open_clip(tmp_path, monkeypatch, source)
    try:
        with pytest.raises(DataError, match=r'lacks them; pip install "diffcls\[clip\]"'):
            imagenet.class_names()
    finally:
        sys.modules.pop("open_clip", None)


def test_class_names_require_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(DataError, match=r'require open_clip.*pip install "diffcls\[clip\]"'):
        imagenet.class_names()


@pytest.mark.usefixtures("named")
def test_hidden_files_beside_the_images_are_left_out(tmp_path: Path) -> None:
    touch(*(tmp_path / "val" / name / f"{name}_1.JPEG" for name in IDS))
    touch(tmp_path / "val" / IDS[0] / "._1.JPEG", tmp_path / "val" / IDS[1] / "__MACOSX" / "2.JPEG")
    dataset = read_imagenet(tmp_path)
    assert len(dataset) == 1000
    assert dataset.passed_over == {"hidden or system files and folders": 2}
