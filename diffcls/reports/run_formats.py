"""Stored rows in other formats: CLIP_benchmark's results, a model card's block, rows beside others.

`FORMATS` are those of ``evaluate --json-format`` and of ``list runs --format``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.runs import leaderboard
from diffcls.runs.clip_benchmark import results_of
from diffcls.runs.model_index import model_index, model_index_yaml
from diffcls.runs.row import MEASURED, values_of
from diffcls.support.errors import UsageError
from diffcls.support.paths import expand

LEADERBOARD = "leaderboard.csv"


def measured_rows(output_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The measured rows of an output folder, numbers as numbers; none without a leaderboard.

    Raises:
        RecordError: for a leaderboard that cannot be read.
    """
    path = Path(expand(os.fspath(output_dir))) / LEADERBOARD
    cells = leaderboard.read(path) if path.exists() else []
    return [values_of(row) for row in cells if row["source"] == MEASURED]


def as_json(rows: Sequence[Mapping[str, Any]], format_name: str) -> str:
    """Measured rows as JSON in a format of ``evaluate --json-format``.

    A single CLIP_benchmark result is an object, as its own files are; several are a list.
    """
    body: Any = list(rows)
    if format_name == "clip_benchmark":
        results = results_of(rows)
        body = results[0] if len(results) == 1 else results
    elif format_name == "model-index":
        body = {"model-index": model_index(rows)}
    return json.dumps(body, indent=2, allow_nan=False)


def as_text(output_dir: str, format_name: str) -> str:
    """The measured rows of an output folder in a format of ``list runs --format``.

    Raises:
        UsageError: for a folder without rows.
        RecordError: for a leaderboard that cannot be read.
    """
    rows = [row for row in measured_rows(output_dir) if row["accuracy"] is not None]
    if not rows:
        raise UsageError(
            "--output-dir holds no rows",
            given=output_dir,
            allowed="the output folder of an evaluation, with leaderboard.csv in it",
        )
    if format_name == "model-index":
        return model_index_yaml(rows).rstrip("\n")
    return as_json(rows, format_name)
