"""Names of error tables: one file below the folder for each image id, whatever the id holds."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from diffcls.support.hashing import hash_text

SUFFIX = ".npz"
OTHER_IDS = "other-ids"
"""Folder of the tables whose image id cannot be a path; each holds its id."""
HASH_LENGTH = 32
MAX_NAME_BYTES = 255
# room for the suffix, and for the dot and ".tmp" of a file that is being written
MAX_STEM_BYTES = MAX_NAME_BYTES - len(SUFFIX) - len("..tmp")
MAX_PATH_BYTES = 1024
# names of folders that would stand in the way of a file's, its lock or its temporary copy
RESERVED_ENDINGS = (SUFFIX, ".tmp", ".lock", "run.json")


class TableNames:
    """Injective map from image ids to paths below a folder, of bounded length.

    An ordinary id is its own path: ``test/0`` -> ``test/0.npz``. All others are
    ``other-ids/HASH.npz``: those with ``.``, ``..`` or nothing between their slashes, characters
    that are none of a file name, or too many, and those that a file system which ignores case, or
    the form of accents, would take for one another.

    Args:
        image_ids: all ids of the run. Without them, two ids that differ in case alone are two files
            only where the file system tells them apart.
    """

    def __init__(self, image_ids: Iterable[str] = ()) -> None:
        by_key = Counter(map(_folded, set(image_ids)))
        self._ambiguous = {key for key, count in by_key.items() if count > 1}

    def __getitem__(self, image_id: str) -> str:
        """Path of the table below the folder, with ``/`` between its parts."""
        if is_ordinary(image_id) and not (self._ambiguous and _folded(image_id) in self._ambiguous):
            return image_id + SUFFIX
        return other_name(image_id)


def other_name(image_id: str) -> str:
    """Path of the table of an id that is not its own path."""
    return f"{OTHER_IDS}/{hash_text(image_id, HASH_LENGTH)}{SUFFIX}"


def is_ordinary(image_id: str) -> bool:
    """Whether an id can be its table's path on every system, below every folder."""
    *folders, stem = image_id.split("/")
    return (
        (folders or [""])[0].casefold() != OTHER_IDS
        and len(image_id.encode("utf-8", "surrogatepass")) <= MAX_PATH_BYTES
        and all(_is_name(part, MAX_NAME_BYTES) for part in folders)
        and not any(part.casefold().endswith(RESERVED_ENDINGS) for part in folders)
        and _is_name(stem, MAX_STEM_BYTES)
    )


def _is_name(part: str, max_bytes: int) -> bool:
    """Whether a part of an id is the name of a file, and of that file alone."""
    return (
        part not in ("", ".", "..")
        # a backslash and a colon lead out of the folder on Windows
        and not any(c in "\\:" or unicodedata.category(c) in ("Cc", "Cs") for c in part)
        and len(part.encode("utf-8")) <= max_bytes
    )


def _folded(image_id: str) -> str:
    """The same text for ids that a file system may take for one another."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", image_id).casefold())
