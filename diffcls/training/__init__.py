"""Training of small models: diffusion, CLIP and supervised classifiers."""

from __future__ import annotations
