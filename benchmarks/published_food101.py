"""food101 as in the published table; see `benchmarks.published` and REPRODUCE.md."""

from __future__ import annotations

from benchmarks.published import published

BENCHMARK = published("food101")
