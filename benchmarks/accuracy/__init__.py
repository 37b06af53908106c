"""Accuracy benchmarks: the leaderboard and the published table."""

from __future__ import annotations
