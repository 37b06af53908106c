"""Images from a model: samplers, guidance, likelihood and fidelity."""

from __future__ import annotations
