"""Recipe of a CLIP small enough for tests."""

from __future__ import annotations

from diffcls.training.recipes import ClipRecipe

SMALL = ClipRecipe(
    image_size=32,
    vision_width=8,
    embed_dim=32,
    text_width=32,
    text_layers=1,
    vocabulary=600,
    images=128,
    batch=32,
)
