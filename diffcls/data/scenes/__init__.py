"""Procedural scenes: coloured shapes, each with an exact caption; nothing to download."""
