"""Scoring: continuous batching of the requests of many images, and their errors."""

from __future__ import annotations
