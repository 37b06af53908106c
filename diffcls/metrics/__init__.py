"""Metrics of classifiers and of generated images: functions from arrays to numbers."""

from __future__ import annotations
