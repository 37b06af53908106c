"""Checkpoints of a training on disk: found, ordered by training images, with the card's curve."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffcls.models import loading
from diffcls.models.card import CARD, read_stored
from diffcls.models.model_index import INDEX
from diffcls.models.revision import files_below
from diffcls.support.errors import UsageError
from diffcls.support.hashing import hash_files
from diffcls.support.paths import expand
from diffcls.training.run_files import SNAPSHOTS, WORK, read_curve

LAST_WEIGHTS = "last"
"""`weights` in the card of a snapshot of the last step, beside which lies the averaged one."""
CURVE = "denoiser-curve.jsonl"


@dataclass(frozen=True)
class Checkpoint:
    """A model to compare.

    Args:
        model: name or folder, as `diffcls.models.loading.load` takes it.
        name: of its card, or its folder.
        images: training images seen, if known.
        card: content of its ``diffcls.json``; empty without one.
        curve_accuracy: accuracy of this checkpoint in the curve of its training, if it has a point.
    """

    model: str
    name: str
    images: int | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    curve_accuracy: float | None = None


def find_checkpoints(given: Sequence[str]) -> list[Checkpoint]:
    """The models that folders, patterns and names stand for.

    Args:
        given: names or folders of models; folders of a training by this package, which stand for
            its snapshots; folders whose subfolders are models; patterns with ``*`` of these.

    Returns:
        In the order given, those of one folder or pattern by training images, else by the number
        in their names; no model twice.

    Raises:
        UsageError: for a folder without a model, or a pattern or name that matches nothing.
        ModelError: for a card that cannot be read.
        RecordError: for a curve that cannot be read.
    """
    found: dict[str, Checkpoint] = {}
    for text in given:
        for checkpoint in _of(expand(text)):
            found.setdefault(os.path.realpath(checkpoint.model), checkpoint)
    return list(found.values())


def _of(text: str) -> list[Checkpoint]:
    if text in loading.bundled() or not (os.path.exists(text) or glob.has_magic(text)):
        loading.check_name(text)
        return [_checkpoint(text)]
    folders = [Path(path) for path in glob.glob(text)] if glob.has_magic(text) else [Path(text)]
    models = [model for folder in folders for model in _models_in(folder)]
    if not models:
        raise UsageError(
            "no checkpoint found",
            given=text,
            allowed=f"a pipeline folder ({INDEX}), or a folder of these",
            todo="save each checkpoint with pipeline.save_pretrained(FOLDER)",
        )
    checkpoints = {os.path.realpath(path): _checkpoint(str(path)) for path in models}
    return sorted(checkpoints.values(), key=_order)


def _models_in(folder: Path) -> Iterator[Path]:
    """The models that a folder stands for."""
    if folder.is_file():
        yield folder
        return
    inside = folder if folder.name == SNAPSHOTS else folder / WORK / SNAPSHOTS
    cards = {path: read_stored(path) for path in _pipelines(inside)}
    snapshots = [path for path in cards if cards[path].get("weights") != LAST_WEIGHTS]
    yield from snapshots
    if (folder / INDEX).is_file():
        # the last snapshot has the weights of the finished model
        end = (read_stored(folder).get("curve") or [{}])[-1].get("images")
        if end is None or end not in {cards[path].get("images") for path in snapshots}:
            yield folder
    elif not snapshots:
        yield from _pipelines(folder)


def _pipelines(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob(f"*/{INDEX}")]


def _checkpoint(model: str) -> Checkpoint:
    place = loading.find(model, weights=False) if not os.path.exists(model) else None
    folder = Path(model) if place is None else place.path
    card = read_stored(folder) if folder.is_dir() else {}
    name = str(card.get("name") or folder.resolve().name)
    images = card.get("images") or card.get("recipe", {}).get("images")
    before = card.get("continued_from", {}).get("images", 0)
    return Checkpoint(
        model,
        name,
        None if images is None else int(images) + int(before),
        card,
        _curve_accuracy(folder, card, images),
    )


def _curve_accuracy(folder: Path, card: Mapping[str, Any], images: int | None) -> float | None:
    """The curve's accuracy at a number of training images; the last one for a finished model."""
    curve = card.get("curve")
    if curve:
        return _accuracy(curve[-1])
    training = folder.resolve().parents[2] if folder.resolve().parent.name == SNAPSHOTS else None
    if training is None or not isinstance(images, int):
        return None
    path = training / WORK / CURVE
    if (training / CARD).is_file():
        points = read_stored(training).get("curve", [])
    elif path.is_file():
        points = read_curve(path)  # the training still runs
    else:
        points = []
    return next((_accuracy(point) for point in points if point.get("images") == images), None)


def _accuracy(point: Mapping[str, Any]) -> float | None:
    value = point.get("validation_accuracy")
    return float(value) if isinstance(value, int | float) else None


def _order(checkpoint: Checkpoint) -> tuple[bool, float, list[int], str]:
    """By training images; those of models without a card by the numbers in their paths."""
    numbers = [int(text) for text in re.findall(r"\d+", Path(checkpoint.model).name)]
    images = checkpoint.images
    return images is None, images or 0, numbers, checkpoint.model


def autoencoder(checkpoint: Checkpoint) -> str:
    """Hash of a model's autoencoder; empty for a model of pixels, or in a single file."""
    path = Path(checkpoint.model)
    folder = (path if path.exists() else loading.find(checkpoint.model).path) / "vae"
    return hash_files(sorted(files_below(folder)), folder) if folder.is_dir() else ""
