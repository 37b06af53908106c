"""Arrays in, numbers out: accuracy, calibration, and distances between sets of images."""

from __future__ import annotations
