"""Ablations: aggregation, weighting and variance reduction."""

from __future__ import annotations
