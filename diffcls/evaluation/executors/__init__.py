"""Executors: loops that score the images of a run."""

from __future__ import annotations
