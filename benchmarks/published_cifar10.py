"""cifar10 as in the published table; see `benchmarks.accuracy.published` and REPRODUCE.md."""

from __future__ import annotations

from benchmarks.accuracy.published import published

BENCHMARK = published("cifar10")
