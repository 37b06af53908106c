"""Foundations that know nothing of images or diffusion: errors, files, hashes, seeds."""

from __future__ import annotations
