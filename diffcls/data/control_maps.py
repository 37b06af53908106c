"""Maps for a ControlNet: edges that are computed of each image, or files that a person gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.data.edges import EDGES, edge_map, open_cv
from diffcls.data.image_formats import suffixes
from diffcls.data.transforms import load_image, to_pixels
from diffcls.support.errors import DataError, UsageError, unknown_name
from diffcls.support.hashing import hash_files
from diffcls.support.paths import expand

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
            DataError: for a given map that is missing or cannot be read.
        """
        if self.folder is None:
            return edge_map(self.kind, pixels)
        return read_map(self._path(image_id), pixels.shape[1], interpolation)

    @cached_property
    def revision(self) -> str:
        """Hash of the given maps; empty for computed ones, which depend on the image alone."""
        return "" if self.folder is None else hash_files(list(_maps_in(self.folder)), self.folder)

    def _path(self, image_id: str) -> Path:
        folder = Path() if self.folder is None else self.folder
        stem = folder / Path(image_id).with_suffix("")
        for suffix in suffixes():
            path = stem.with_name(stem.name + suffix)
            if path.is_file():
                return path
        raise DataError(
            "--control: an image has no map",
            given=f"{stem}.*",
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
        if not place or next(_maps_in(folder), None) is None:
            raise UsageError(
                "--control: no maps in the folder", given=place, allowed="maps:DIR of image files"
            )
        return ControlMaps(kind, folder)
    if text not in EDGES:
        raise unknown_name("control", text, [*EDGES, "maps:DIR"])
    open_cv()
    return ControlMaps(text)


def _maps_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in suffixes())
