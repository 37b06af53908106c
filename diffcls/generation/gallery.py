"""Where drawn images go: one folder a drawing, known by all that makes it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from PIL import Image

from diffcls.generation.image_grid import grid, write_film, write_png
from diffcls.support.errors import UsageError
from diffcls.support.files import write_text
from diffcls.support.hashing import hash_text


class Shelf:
    """The folder of a drawing: images as they come, then what shows them together.

    Args:
        output: where the folder is made.
        settings: all that makes the images, in plain JSON types: their hash is its name.
        labels: of each image that is asked for.

    Raises:
        UsageError: for an output folder that cannot be written to.
    """

    def __init__(self, output: Path, settings: dict[str, Any], labels: list[str]) -> None:
        text = json.dumps(settings, sort_keys=True)
        short = str(settings["model"]).replace("/", "-")
        self.folder = output / f"{short}-{hash_text(text, 8)}"
        self.settings, self.labels = settings, labels
        self.images: list[Any] = []
        self.ways: list[list[Any]] = []
        try:
            places = (self.folder, *self.folder.parents)
            self.made = [place for place in places if not place.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write to the output folder ({error.strerror})", given=str(output)
            ) from error

    def put(self, pixels: Any, trajectory: list[Any]) -> None:
        """A batch (B, H, W, 3) of images, and the estimates on the way to them."""
        for i, one in enumerate(pixels):
            number = len(self.images)
            write_png(self.folder / f"{number:04d}.png", Image.fromarray(one))
            self.images.append(one)
            if trajectory:
                self.ways.append([step[i] for step in trajectory])

    def close(self) -> None:
        """Grid, strips, film and ``samples.json``, of as many images as there are.

        Without any, no folder is left that was not there before.
        """
        if not self.images:
            with contextlib.suppress(OSError):
                for place in self.made:
                    place.rmdir()
            return
        write_png(self.folder / "grid.png", grid(self._rows(self.images)))
        if self.ways:
            strips = [(self.labels[i], _thinned(way)) for i, way in enumerate(self.ways)]
            write_png(self.folder / "trajectory.png", grid(strips))
            films = list(zip(*self.ways, strict=True))
            write_film(
                self.folder / "trajectory.gif", [grid(self._rows(list(step))) for step in films]
            )
        said = {**self.settings, "labels": self.labels, "drawn": len(self.images)}
        write_text(self.folder / "samples.json", json.dumps(said, indent=2) + "\n")

    def _rows(self, images: list[Any]) -> list[tuple[str, list[Any]]]:
        """Images of one label in a row."""
        rows: dict[str, list[Any]] = {}
        for label, image in zip(self.labels, images, strict=False):
            rows.setdefault(label, []).append(image)
        return list(rows.items())

    def said(self) -> dict[str, Any]:
        """What is told of it."""
        asked, images = len(self.labels), len(self.images)
        status = "complete" if images == asked else "partial"
        told = {"folder": str(self.folder), "asked": asked, "images": images, "status": status}
        return {**told, **self.settings}


def _thinned(way: list[Any], most: int = 10) -> list[Any]:
    """About ten of the estimates on the way, the first and the last among them."""
    count = min(most, len(way))
    return [way[round(i * (len(way) - 1) / max(1, count - 1))] for i in range(count)]
