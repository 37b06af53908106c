"""Small tar shards of gray images, and their truth."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from helpers.image_folders import encoded

from diffcls.data.dataset import Dataset

CLASSES = ("cat", "dog", "owl")


def image(gray: int, kind: str = "PNG") -> bytes:
    """An encoded image whose gray level is its identity."""
    return encoded(kind, gray=gray)


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """An archive of files, in their order; names may occur twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def files_of(grays: Iterable[int], label: str = "cls") -> list[tuple[str, bytes]]:
    """Files of images with these gray levels, whose labels are these modulo 3."""
    return [
        one
        for gray in grays
        for one in (
            (f"s{gray:03d}.png", image(gray)),
            (f"s{gray:03d}.{label}", str(gray % 3).encode()),
        )
    ]


def write_shards(folder: Path, shards: Mapping[str, Iterable[int]]) -> Path:
    """Shards of gray images in a folder with ``classnames.txt``."""
    for name, grays in shards.items():
        write_tar(folder / name, files_of(grays))
    (folder / "classnames.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def grays(dataset: Dataset) -> list[int]:
    """The gray levels of all images, read one by one."""
    return [int(np.asarray(item.open())[0, 0, 0]) for item in dataset.items]


def truth(dataset: Dataset) -> list[tuple[str, int, int]]:
    """(image id, label, gray level) of each image."""
    pairs = zip(dataset.items, grays(dataset), strict=True)
    return [(item.image_id, item.label, gray) for item, gray in pairs]


def special(name: str, kind: bytes, target: str = "") -> Any:
    """The header of a link or device in an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member
