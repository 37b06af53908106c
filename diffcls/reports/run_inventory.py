"""Inventory of stored runs for ``python -m diffcls.list runs``, damaged ones included."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from diffcls.runs.comparable import Results, read_results
from diffcls.runs.stored import StoredRun, read_runs
from diffcls.support.errors import RecordError

NO_RECORDS = "no records"
TEXTS = ("dataset", "split", "method", "search", "model", "setting", "seed", "date")


def runs(output_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every run of an output folder; all records are read, so that damaged ones are found.

    ``status`` is ``complete``, ``partial``, ``damaged`` (``problem`` has the reason), or ``no
    records`` for a row of the leaderboard whose folder is missing.

    Raises:
        UsageError: for a folder without runs.
        RecordError: for a leaderboard that cannot be read.
    """
    stored = read_runs(output_dir)
    entries = [_entry(run) for run in stored.runs]
    entries += map(_row_entry, stored.missing)
    for damaged in stored.damaged:
        empty: dict[str, Any] = dict.fromkeys(TEXTS)
        figures = {"status": "damaged", "n_scored": None, "n_failed": None, "n_asked": None}
        entries.append(
            {
                "fingerprint": damaged.fingerprint,
                **empty,
                **figures,
                "accuracy": None,
                "problem": damaged.reason,
            }
        )
    return entries


def _entry(run: StoredRun) -> dict[str, Any]:
    texts = {name: run.column(name) or None for name in TEXTS}
    try:
        results = read_results(run)
    except RecordError as error:
        row = dict.fromkeys(("n_scored", "n_failed", "n_asked", "accuracy"))
        return {
            "fingerprint": run.fingerprint,
            **texts,
            "status": "damaged",
            **row,
            "problem": str(error),
        }
    return {
        "fingerprint": run.fingerprint,
        **texts,
        "status": results.status,
        "n_scored": results.n_scored,
        "n_failed": results.n_failed,
        "n_asked": run.n_asked,
        "accuracy": _accuracy(results),
        "problem": None,
    }


def _row_entry(row: Mapping[str, str]) -> dict[str, Any]:
    asked, scored = (int(row[name]) if row[name] else None for name in ("n_asked", "n_scored"))
    return {
        "fingerprint": row["fingerprint"],
        **{name: row[name] or None for name in TEXTS},
        "status": NO_RECORDS,
        "n_scored": scored,
        "n_failed": None,
        "n_asked": asked,
        "accuracy": float(row["accuracy"]) if row["accuracy"] else None,
        "problem": "the folder of its records is missing",
    }


def _accuracy(results: Results) -> float | None:
    correct = [outcome.answer == outcome.label for outcome in results.scored.values()]
    return sum(correct) / len(correct) if correct else None
