"""Output folder of one generation run, named by a hash of its settings."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from PIL import Image

from diffcls.generation.image_grid import grid, write_animation, write_png
from diffcls.support.files import safe_name, unwritable_output, write_text
from diffcls.support.hashing import hash_text

SETTINGS_FILE = "samples.json"
MAX_STEPS_IN_STRIP = 10
"""Estimates of a trajectory shown side by side."""


class Gallery:
    """The folder of a generation run: each image as it is finished, then grid and settings.

    Args:
        output: parent of the folder.
        settings: everything that decides the images, in plain JSON types; its hash is part of the
            folder's name.
        labels: label of each requested image.

    Raises:
        UsageError: for an output folder that cannot be written.
    """

    def __init__(self, output: Path, settings: dict[str, Any], labels: list[str]) -> None:
        text = json.dumps(settings, sort_keys=True)
        short = safe_name(str(settings["model"]).replace("/", "-"))
        self.folder = output / f"{short}-{hash_text(text, 8)}"
        self.settings, self.labels = settings, labels
        self.images: list[Any] = []
        self.trajectories: list[list[Any]] = []
        try:
            folders = (self.folder, *self.folder.parents)
            self.created = [folder for folder in folders if not folder.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable_output(output, error) from error

    def put(self, pixels: Any, trajectory: list[Any]) -> None:
        """Add a batch of images (B, H, W, 3) and, if any, their estimates after each step."""
        for i, one in enumerate(pixels):
            number = len(self.images)
            write_png(self.folder / f"{number:04d}.png", Image.fromarray(one))
            self.images.append(one)
            if trajectory:
                self.trajectories.append([step[i] for step in trajectory])

    def close(self) -> None:
        """Write grid, trajectories and ``samples.json`` of the finished images.

        Without any image, the folders that were created are removed.
        """
        if not self.images:
            with contextlib.suppress(OSError):
                for folder in self.created:
                    folder.rmdir()
            return
        write_png(self.folder / "grid.png", grid(self._rows(self.images)))
        if self.trajectories:
            strips = [
                (self.labels[i], _thinned(steps)) for i, steps in enumerate(self.trajectories)
            ]
            write_png(self.folder / "trajectory.png", grid(strips))
            frames = list(zip(*self.trajectories, strict=True))
            animation = [grid(self._rows(list(frame))) for frame in frames]
            write_animation(self.folder / "trajectory.gif", animation)
        summary = {**self.settings, "labels": self.labels, "generated": len(self.images)}
        write_text(self.folder / SETTINGS_FILE, json.dumps(summary, indent=2) + "\n")

    def _rows(self, images: list[Any]) -> list[tuple[str, list[Any]]]:
        """(label, images) of each label, in order."""
        rows: dict[str, list[Any]] = {}
        for label, image in zip(self.labels, images, strict=False):
            rows.setdefault(label, []).append(image)
        return list(rows.items())


def _thinned(steps: list[Any]) -> list[Any]:
    """Up to `MAX_STEPS_IN_STRIP` of the estimates, evenly spread, with the first and the last."""
    count = min(MAX_STEPS_IN_STRIP, len(steps))
    return [steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)]


def image_files(folder: Path) -> list[Path]:
    """The single images in the folder of a generation run, without grid and trajectories."""
    return sorted(path for path in folder.glob("*.png") if path.stem.isdigit())
