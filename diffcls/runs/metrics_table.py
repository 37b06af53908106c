"""``rejection.csv`` and ``multi_label.csv``: figures beside the leaderboard, one value per row."""

from __future__ import annotations

from diffcls.runs.keyed_table import KeyedTable

COLUMNS = (
    *("fingerprint", "dataset", "split", "method", "model", "background_prompt", "statistic"),
    *("metric", "label", "value", "ci_low", "ci_high", "n", "n_none", "n_labels"),
    *("evaluations_per_image", "seed", "device", "versions", "commit", "command", "date"),
)
KEY_COLUMNS = ("fingerprint", "statistic", "metric", "label")
"""Columns that identify a figure; a later row replaces an earlier one with equal cells."""
PROVENANCE = ("seed", "device", "versions", "commit", "command", "date")
"""Columns that are copied from a run's leaderboard row or header."""

_TABLE = KeyedTable("a table of figures", COLUMNS, KEY_COLUMNS)
put, read = _TABLE.put, _TABLE.read
