"""Data sets: what there is (`specs`), and where the images come from (one file a source)."""
