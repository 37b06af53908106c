"""diffusion."""

from __future__ import annotations
