"""Paths given as names of data sets, without ``folder:`` or ``parquet:`` before them."""

from __future__ import annotations

from pathlib import Path

from diffcls.support.paths import expand

PATH_STARTS = ("/", "./", "../", "~/")
TABLES = ("*.parquet", "data/*.parquet")


def with_prefix(name: str) -> str | None:
    """``folder:NAME`` or ``parquet:NAME`` for the path of existing data; None for any other name.

    A name that begins like a path is taken for a path whether it exists or not.
    """
    path = Path(expand(name))
    try:
        if path.is_dir():
            holds_tables = any(next(path.glob(pattern), None) for pattern in TABLES)
            return f"{'parquet' if holds_tables else 'folder'}:{name}"
        is_table = path.suffix == ".parquet" and path.is_file()
    except (OSError, ValueError):  # a name that no path can have
        return None
    if is_table or name.startswith(PATH_STARTS):
        return f"{'parquet' if path.suffix == '.parquet' else 'folder'}:{name}"
    return None
