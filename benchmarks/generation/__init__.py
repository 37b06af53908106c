"""Generation benchmarks: fidelity, likelihood and guided samples."""

from __future__ import annotations
