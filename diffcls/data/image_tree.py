"""Image files below a folder: links followed, hidden files left out, everything else counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from diffcls.data.image_formats import is_image_file
from diffcls.support.text import valid_text

SYSTEM_FOLDERS = {
    "__macosx",  # macOS, in zip archives
    "@eadir",  # thumbnails of Synology
    "$recycle.bin",  # Windows
    "system volume information",
    "lost+found",
}
HIDDEN = "hidden or system files and folders"
BROKEN_LINK = "links to nothing"
REPEATED_LINK = "links to folders that are read already"
UNREADABLE = "folders that cannot be opened"
SPECIAL = "special files"
NO_SUFFIX = "other files without suffix"

Identity = tuple[int, int]


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system: ``.name``, or a folder such as __MACOSX."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def images_below(
    folder: Path, passed_over: Counter[str], elsewhere: Iterable[Path] = ()
) -> list[Path]:
    """The image files of a folder and its subfolders, sorted by path.

    Links to folders are followed. A folder is read once, so that a link back ends no loop: real
    folders come before links, and a link to a folder around this one is passed over.

    Args:
        folder: the folder.
        passed_over: kind -> count of what is passed over, which is added to.
        elsewhere: folders that a link does not lead to, because they are read on their own.
    """
    read = {_identity(path) for path in (folder, *folder.resolve().parents, *elsewhere)}
    images: list[Path] = []
    folders, links = [folder], list[Path]()
    while folders or links:
        if folders:
            current = folders.pop()
        else:
            links.sort(reverse=True)
            current = links.pop()
            if _identity(current) in read:
                passed_over[REPEATED_LINK] += 1
                continue
        read.add(_identity(current))
        files, below = contents(current, passed_over)
        for path in files:
            if is_image_file(path):
                images.append(path)
            else:
                passed_over[kind_of(path)] += 1
        for path in below:
            # inside a followed link, a real folder may have been read, too
            followed = path.is_symlink() or _identity(path) in read
            (links if followed else folders).append(path)
    return sorted(images)


def contents(folder: Path, passed_over: Counter[str]) -> tuple[list[Path], list[Path]]:
    """The files and the folders in a folder, links included; the rest is counted.

    Args:
        folder: the folder.
        passed_over: see `images_below`.
    """
    files: list[Path] = []
    folders: list[Path] = []
    try:
        paths = list(folder.iterdir())
    except OSError:
        passed_over[UNREADABLE] += 1
        return files, folders
    for path in paths:
        if is_hidden(path.name):
            passed_over[HIDDEN] += 1
        elif os.path.isdir(path):
            folders.append(path)
        elif os.path.isfile(path):
            files.append(path)
        else:
            passed_over[SPECIAL if os.path.exists(path) else BROKEN_LINK] += 1
    return files, folders


def kind_of(path: Path) -> str:
    """Kind of a file that is no image: ``*.txt``."""
    suffix = valid_text(path.suffix.lower())
    return f"*{suffix}" if suffix.strip(".") else NO_SUFFIX


def _identity(path: Path) -> Identity:
    try:
        status = path.stat()
    except OSError:
        return (-1, hash(path))
    return status.st_dev, status.st_ino
