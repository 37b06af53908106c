"""Shared parts of the benchmarks: specification, flags and comparison of runs."""

from __future__ import annotations
