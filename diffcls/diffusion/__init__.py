"""The mathematics of diffusion, without a model: schedules, parameterizations, the bound."""

from __future__ import annotations
