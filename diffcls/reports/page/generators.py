"""Generators of runs: fidelity from ``fidelity.csv``, and stored samples of ``generate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diffcls.reports.page.pictures import Thumbnail, thumbnail
from diffcls.runs import fidelity_table
from diffcls.support.stored_json import parse_json

FIDELITY = "fidelity.csv"
MAX_SAMPLES = 10
SETTINGS_FILE = "samples.json"
IMAGE_METHODS = ("diffusion", "synthetic", "sd-features")
"""Methods whose model generates images."""


@dataclass(frozen=True)
class Sample:
    """A generated image with its label."""

    label: str
    picture: Thumbnail


@dataclass(frozen=True)
class Generator:
    """A model that generates images.

    Args:
        model: its name.
        fidelity: rows of ``fidelity.csv``.
        samples: a few stored images, one per label.
        settings: how they were generated: sampler, steps, guidance and seed, where stored.
    """

    model: str
    fidelity: Sequence[Mapping[str, str]]
    samples: Sequence[Sample] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


def generators(output_dir: Path, models: Sequence[str]) -> list[Generator]:
    """What an output folder holds about some models, in their order.

    Raises:
        RecordError: for a fidelity table that cannot be read.
    """
    path = output_dir / FIDELITY
    rows = fidelity_table.read(path) if path.exists() else []
    stored = _sample_folders(output_dir)
    found = []
    for model in models:
        samples, settings = stored.get(model, ([], {}))
        fidelity = [row for row in rows if row["model"] == model]
        found.append(Generator(model, fidelity, samples, settings))
    return found


def _sample_folders(output_dir: Path) -> dict[str, tuple[list[Sample], dict[str, str]]]:
    """Model -> samples of its first folder, by name, that `generate` wrote."""
    found: dict[str, tuple[list[Sample], dict[str, str]]] = {}
    files = [*output_dir.glob(f"*/{SETTINGS_FILE}"), *output_dir.glob(f"*/*/{SETTINGS_FILE}")]
    for file in sorted(files):
        try:
            stored = parse_json(file.read_bytes())
            model, labels = str(stored["model"]), list(map(str, stored["labels"]))
            if model not in found:
                samples = _samples(file.parent, labels)
                shown = ("sampler", "steps", "guidance", "seed")
                settings = {
                    name: str(stored[name]) for name in shown if stored.get(name) is not None
                }
                if samples:
                    found[model] = samples, settings
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # no folder that `generate` finished
    return found


def _samples(folder: Path, labels: Sequence[str]) -> list[Sample]:
    """One image of each label, at most `MAX_SAMPLES`."""
    from PIL import Image

    first = {label: i for i, label in reversed(list(enumerate(labels)))}
    samples = []
    for label, i in sorted(first.items(), key=lambda pair: pair[1])[:MAX_SAMPLES]:
        with Image.open(folder / f"{i:04d}.png") as image:
            samples.append(Sample(label, thumbnail(image)))
    return samples
