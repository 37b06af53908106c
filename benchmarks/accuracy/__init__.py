"""accuracy."""

from __future__ import annotations
