"""Shared parts of the benchmarks: registry, flags, tables, processes, comparison of runs."""

from __future__ import annotations
