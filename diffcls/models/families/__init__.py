"""Model families: adapters of diffusers pipelines, one file per family."""

from __future__ import annotations
