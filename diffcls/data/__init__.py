"""Data sets: what there is (`catalog`), and where the images come from (one file a source)."""
