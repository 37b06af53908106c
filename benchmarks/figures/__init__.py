"""Figures of the documentation."""

from __future__ import annotations
