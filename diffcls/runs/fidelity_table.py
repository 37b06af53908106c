"""``fidelity.csv``: fidelity and likelihood of generative models, one value per row."""

from __future__ import annotations

import os
from pathlib import Path

from diffcls.runs.keyed_table import KeyedTable
from diffcls.support.errors import UsageError

COLUMNS = (
    *("model", "dataset", "split", "metric", "extractor", "n", "value", "stderr"),
    *("guidance", "steps", "training_images", "accuracy"),
)
METRICS = ("FID", "IS", "KID", "precision", "recall", "bits_per_dim")
KEY_COLUMNS = tuple(name for name in COLUMNS if name not in ("value", "stderr", "accuracy"))
"""Columns that identify a measurement; a later row replaces an earlier one with equal cells."""

_TABLE = KeyedTable("a fidelity table", COLUMNS, KEY_COLUMNS, kept="accuracy")
put, read = _TABLE.put, _TABLE.read


def check(path: Path) -> None:
    """Check, before a measurement, that `put` will work; nothing is created.

    Raises:
        RecordError, UsageError: see `put`.
    """
    if path.exists():
        read(path)
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UsageError(
            "--output-dir cannot be written", str(path.parent), todo="choose another folder"
        )
