"""Scoring: requests of many images to errors, in full batches."""

from __future__ import annotations
