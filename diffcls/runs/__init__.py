"""Files of a run: its specification, records, error tables and leaderboard row."""

from __future__ import annotations
