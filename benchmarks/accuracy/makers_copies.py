"""Tiny copies of the published data sets in the layouts of their makers, with all their classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffcls.data.layouts import objectnet


@dataclass(frozen=True)
class Makers:
    """Class names as the makers of the data sets give them.

    Args:
        names: data set -> its class names in order; of the pets in lower case.
        cats: pets that are cats; the others are dogs.
        objectnet_labels: folder of ObjectNet -> its label.
        objectnet_shared: labels of ObjectNet that are classes of ImageNet, too.
        wordnet_ids: the ids of ImageNet's classes, in order; without any, consecutive ones.
    """

    names: Mapping[str, Sequence[str]]
    cats: Sequence[str]
    objectnet_labels: Mapping[str, str]
    objectnet_shared: Sequence[str]
    wordnet_ids: Sequence[str] = field(default_factory=lambda: [f"n{i:08d}" for i in range(1000)])


def write(name: str, folder: Path, makers: Makers) -> None:
    """Write a copy of the test split of `name`, with at least one image, into an empty folder.

    Args:
        name: full name of one of the eight data sets of the published table.
        folder: the data root.
        makers: the class names.
    """
    _WRITERS[name](folder, makers)


def _image(path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (120, 90, 60)).save(path)


def _text(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _stl10(folder: Path, makers: Makers) -> None:
    home = folder / "stl10_binary"
    _text(home / "class_names.txt", makers.names["stl10"])
    (home / "test_X.bin").write_bytes(bytes(3 * 96 * 96))
    (home / "test_y.bin").write_bytes(b"\1")


def _cifar10(folder: Path, makers: Makers) -> None:
    home = folder / "cifar-10-batches-bin"
    _text(home / "batches.meta.txt", makers.names["cifar10"])
    (home / "test_batch.bin").write_bytes(b"\3" + bytes(3072))


def _pets(folder: Path, makers: Makers) -> None:
    home = folder / "oxford-iiit-pet"
    lines = ["#Image CLASS-ID SPECIES BREED ID"]
    for number, name in enumerate(makers.names["pets"], start=1):
        cat = name in makers.cats
        # files of cats begin with a capital
        words = [word.capitalize() if cat else word for word in name.split()]
        lines.append(f"{'_'.join(words)}_1 {number} {1 if cat else 2} {number}")
    _text(home / "annotations" / "list.txt", lines)
    _text(home / "annotations" / "test.txt", lines[1:])
    _image(home / "images" / f"{lines[1].split()[0]}.jpg")


def _food101(folder: Path, makers: Makers) -> None:
    home = folder / "food-101"
    names = makers.names["food101"]
    _text(home / "meta" / "classes.txt", names)
    _text(home / "meta" / "test.txt", [f"{name}/1" for name in names])
    _image(home / "images" / names[0] / "1.jpg")


def _flowers102(folder: Path, makers: Makers) -> None:
    from scipy.io import savemat

    home = folder / "flowers-102"
    home.mkdir(parents=True)
    savemat(home / "imagelabels.mat", {"labels": np.arange(1, 103)[None]})
    savemat(home / "setid.mat", {"tstid": [[1, 2]], "valid": [[3]], "trnid": [[4]]})
    _image(home / "jpg" / "image_00001.jpg")


def _fgvc_aircraft(folder: Path, makers: Makers) -> None:
    home = folder / "fgvc-aircraft-2013b" / "data"
    names = makers.names["fgvc_aircraft"]
    _text(home / "variants.txt", names)
    _text(home / "images_variant_test.txt", [f"{i:07d} {name}" for i, name in enumerate(names)])
    _image(home / "images" / "0000000.jpg")


def _imagenet(folder: Path, makers: Makers) -> None:
    for name in makers.wordnet_ids:
        (folder / "imagenet" / "val" / name).mkdir(parents=True)
    first = makers.wordnet_ids[0]
    _image(folder / "imagenet" / "val" / first / "ILSVRC2012_val_00000001.JPEG")


def _objectnet(folder: Path, makers: Makers) -> None:
    home = folder / "objectnet-1.0"
    shared = dict.fromkeys(makers.objectnet_shared, "")
    for file, content in (
        (objectnet.LABELS_FILE, makers.objectnet_labels),
        (objectnet.OVERLAP_FILE, shared),
    ):
        _text(home / "mappings" / file, [json.dumps(dict(content))])
    for name in makers.objectnet_labels:
        _image(home / "images" / name / "1.png")


_WRITERS: Mapping[str, Callable[[Path, Makers], None]] = {
    "stl10": _stl10,
    "pets": _pets,
    "food101": _food101,
    "flowers102": _flowers102,
    "fgvc_aircraft": _fgvc_aircraft,
    "cifar10": _cifar10,
    "imagenet": _imagenet,
    "objectnet": _objectnet,
}
DATASETS = tuple(_WRITERS)
"""The eight data sets of the published table."""
