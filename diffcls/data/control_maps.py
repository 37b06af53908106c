"""Maps for a ControlNet: edges that are computed of each image, or files that a person gives."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from diffcls.data.edges import EDGES, edge_map, open_cv
from diffcls.data.image_formats import suffixes
from diffcls.data.image_tree import images_below
from diffcls.data.transforms import load_image, to_pixels
from diffcls.support.errors import DataError, UsageError, unknown_name
from diffcls.support.hashing import hash_files
from diffcls.support.paths import expand
from diffcls.support.text import valid_text

GIVEN = "maps"
"""Kind of the maps that a person gives: ``maps:DIR``."""
Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class ControlMaps:
    """The maps of a run: one per image.

    Args:
        kind: a key of `diffcls.data.edges.EDGES`, or `GIVEN`.
        folder: the folder of given maps; None for computed ones.
    """

    kind: str
    folder: Path | None = None

    def of(self, image_id: str, pixels: Pixels, interpolation: str = "bicubic") -> Pixels:
        """The map of an image, (3, H, W) in [0, 1].

        Args:
            image_id: id of the image in its data set, by which a given map is found.
            pixels: (3, H, W) in [−1, 1], the image as the model receives it.
            interpolation: resizing of a given map, which is cropped as the image.

        Raises:
            DataError: for a given map that is missing or cannot be read, or several that fit.
        """
        if self.folder is None:
            return edge_map(self.kind, pixels)
        return read_map(self._path(image_id), pixels.shape[1], interpolation)

    @cached_property
    def revision(self) -> str:
        """Hash of the given maps; empty for computed ones, which depend on the image alone."""
        return "" if self.folder is None else hash_files(_maps_in(self.folder), self.folder)

    @cached_property
    def _files(self) -> tuple[dict[str, Path], dict[str, list[Path]]]:
        """The given maps by their name below the folder, and by that without the suffix."""
        by_name, by_stem = dict[str, Path](), defaultdict[str, list[Path]](list)
        folder = Path() if self.folder is None else self.folder
        for path in _maps_in(folder):
            name = valid_text(path.relative_to(folder).as_posix())  # as in ids of images
            by_name[name] = path
            by_stem[_stem(name)].append(path)
        return by_name, dict(by_stem)

    def _path(self, image_id: str) -> Path:
        """The map of an image: the file of its very name, or else the one that differs in suffix.

        Only files of the folder are looked up, so an id with ``..`` leads nowhere else.
        """
        by_name, by_stem = self._files
        if image_id in by_name:
            return by_name[image_id]
        found = by_stem.get(_stem(image_id), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                "--control: several maps fit an image",
                given=f"{', '.join(path.name for path in found)} for {image_id}",
                todo="keep one of them, or name one exactly like the image",
            )
        raise DataError(
            "--control: an image has no map",
            given=f"{_stem(image_id)}.* in {self.folder}",
            todo="name each map like its image, in the same sub-folder",
        )


def read_map(path: Path, size: int, interpolation: str = "bicubic") -> Pixels:
    """A map in a file, (3, size, size) in [0, 1].

    Raises:
        DataError: for a file that is no image.
    """
    pixels = to_pixels(load_image(path), size, interpolation)
    return (pixels + np.float32(1)) / np.float32(2)


def parse(text: str) -> ControlMaps:
    """The maps that ``--control`` names.

    Raises:
        UsageError: for an unknown kind, a folder without images, or edges without OpenCV.
    """
    kind, separator, place = text.partition(":")
    if kind == GIVEN and separator:
        folder = Path(expand(place or "."))
        if not place or not _maps_in(folder):
            raise UsageError(
                "--control: no maps in the folder", given=place, allowed="maps:DIR of image files"
            )
        return ControlMaps(kind, folder)
    if text not in EDGES:
        raise unknown_name("control", text, [*EDGES, "maps:DIR"])
    open_cv()
    return ControlMaps(text)


def _maps_in(folder: Path) -> list[Path]:
    return images_below(folder, Counter()) if folder.is_dir() else []


def _stem(name: str) -> str:
    """A name without the suffix of an image file, in any case of letters."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in suffixes() else name
