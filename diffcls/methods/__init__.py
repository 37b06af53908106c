"""Classifiers behind the one `Method` contract: one file a method."""

from __future__ import annotations

from diffcls.registry import Registry

# each builds (options, spec of the data set, prompts) -> Built
METHODS = Registry("method", {"diffusion": "diffcls.methods.building:diffusion"})
