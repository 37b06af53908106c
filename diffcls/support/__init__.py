"""Foundations without images or diffusion: errors, files, hashes, seeds, registries."""

from __future__ import annotations
