"""Lists of a Hub repository's files, kept beside its snapshots in the Hub's cache.

A snapshot's folder does not tell which files a download has not reached. The list of each commit
is kept in ``datasets--OWNER--NAME/diffcls/COMMIT.json``, and goes with the repository.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from diffcls.support.errors import DiffclsError
from diffcls.support.files import locked, write_text

KEPT, TREES = "diffcls", "trees"
"""Folders of lists: the package's own, and that of huggingface_hub from 2 on."""


def keep_list(folder: Path, commit: str, files: Sequence[str]) -> None:
    """Keep the list of a commit, unless it is there or the cache is read-only.

    Args:
        folder: folder of the repository in the cache.
        commit: hash of the commit, whose files never change.
        files: paths of all of its files.
    """
    path = _kept(folder, commit)
    if path.is_file():
        return
    with contextlib.suppress(OSError, DiffclsError), locked(path) as target:
        write_text(target, json.dumps({"files": list(files)}))


def kept_list(folder: Path, commit: str) -> list[str] | None:
    """Paths of all files of a commit; None if no list of it is kept.

    The list may be that of `keep_list`, or the one that ``hf download`` writes.
    """
    for path in (_kept(folder, commit), folder / TREES / f"{commit}.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            files = list(json.loads(path.read_text(encoding="utf-8"))["files"])
            if files and all(isinstance(one, str) for one in files):
                return files
    return None


def _kept(folder: Path, commit: str) -> Path:
    return folder / KEPT / f"{commit}.json"
