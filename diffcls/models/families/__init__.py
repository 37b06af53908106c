"""Adapters of diffusers pipelines, one file a model family."""

from __future__ import annotations
