"""ablations."""

from __future__ import annotations
