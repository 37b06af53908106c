"""Procedural scenes: rendered images of coloured shapes with exact captions, no download."""
