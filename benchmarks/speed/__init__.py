"""Speed benchmarks: evaluations, throughput and memory."""

from __future__ import annotations
