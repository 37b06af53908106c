"""What a run leaves on disk: its spec, records, error tables and leaderboard row."""

from __future__ import annotations
