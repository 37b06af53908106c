"""Executors: where images are scored."""

from __future__ import annotations
