"""Paths given as names of data sets, without their prefix."""

from __future__ import annotations

from pathlib import Path

from diffcls.support.paths import expand

PATH_STARTS = ("/", "./", "../", "~/")
FILES = {".parquet": "parquet", ".tar": "webdataset"}
FOLDERS = {"parquet": ("*.parquet", "data/*.parquet"), "webdataset": ("*.tar", "test/*.tar")}
"""Prefix -> patterns of the files that a folder of such data has."""


def with_prefix(name: str) -> str | None:
    """``folder:NAME``, ``parquet:NAME`` or ``webdataset:NAME`` for a path; None for other names.

    A name that begins like a path is taken for a path whether it exists or not.
    """
    path = Path(expand(name))
    try:
        if path.is_dir():
            return f"{_kind_of_folder(path)}:{name}"
        is_file = path.suffix in FILES and path.is_file()
    except (OSError, ValueError):  # a name that no path can have
        return None
    if is_file or name.startswith(PATH_STARTS):
        return f"{FILES.get(path.suffix, 'folder')}:{name}"
    return None


def _kind_of_folder(path: Path) -> str:
    for kind, patterns in FOLDERS.items():
        if any(next(path.glob(pattern), None) for pattern in patterns):
            return kind
    return "folder"
