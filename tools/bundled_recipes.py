"""Rows of the recipe table that the bundled models were trained by."""

from __future__ import annotations

from pathlib import Path

from diffcls.models.json_files import read_json
from diffcls.models.loading import CARD, WEIGHTS


def row_of(name: str, weights: Path = WEIGHTS) -> str:
    """Name of the recipe of a bundled model, such as ``cifar10-long``, from its card's command."""
    words = read_json(weights / name / CARD).get("command", "").split()
    recipe = words[words.index("--recipe") + 1] if "--recipe" in words else ""
    return f"{name}-{recipe}" if recipe else name
