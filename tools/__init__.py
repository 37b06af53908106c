"""Scripts that write into the package: model cards and timestep allocations."""

from __future__ import annotations
