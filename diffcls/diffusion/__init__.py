"""The mathematics of diffusion: schedules, parameterizations, bounds. No model."""

from __future__ import annotations
