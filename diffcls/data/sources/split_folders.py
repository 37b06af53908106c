"""Split folders of an image folder: which folder holds the images of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffcls.data.image_tree import contents
from diffcls.data.sources.captions_table import find_table
from diffcls.data.split_names import split_folders, split_of
from diffcls.support.errors import DataError
from diffcls.support.text import valid_text

FALLBACKS = {"test": ("test", "validation")}
"""Split -> the splits whose folder is read for it, in order of preference."""


@dataclass(frozen=True)
class SplitFolder:
    """The folder that holds the images of a split.

    Args:
        folder: path of the folder, which has one folder per class or a table of captions.
        split: name of the split.
        whole: whether the folder is not divided into splits.
        beside: number of folders beside the split folders, which are not read.
    """

    folder: Path
    split: str
    whole: bool = False
    beside: int = 0


def find_split(root: Path, split: str) -> SplitFolder:
    """The folder of a split, by any spelling of its name; the root if it has no split folders.

    Two folders or more with names of splits are splits, never classes. A single one is a split if
    it has folders itself, or a table of captions: beside others, it is the class "train" otherwise.
    Without a folder of the test split, that of the validation split is read for it.

    Args:
        root: an existing folder.
        split: a spelling of train, validation or test, or the name of a folder.

    Raises:
        DataError: if there are only folders of other splits, or several of this one.
    """
    _, below = contents(root, Counter())
    folders = {path.name: path for path in sorted(below)}
    splits = split_folders(folders)
    names = [name for group in splits.values() for name in group]
    if len(names) == 1 and not _holds_classes(folders[names[0]]):
        splits, names = {}, []
    exact = next((name for name in folders if name == split), None)
    wanted = split_of(split)
    beside = len(folders) - len(names)
    if wanted is None:
        if exact is None:
            raise _no_such_split(root, split, names)
        return SplitFolder(folders[exact], split)
    for kind in FALLBACKS.get(wanted, (wanted,)):
        group = splits.get(kind, [])
        if exact in group:  # its own name, also beside other spellings
            label = split if len(group) > 1 else wanted
            return SplitFolder(folders[exact or ""], label, beside=beside)
        if len(group) > 1:
            raise DataError(
                f"--split: several folders of {_shown(root)} are the {kind} split",
                given=[_shown(name) for name in group],
                todo="name one of them with --split, or rename the others",
            )
        if group:
            return SplitFolder(folders[group[0]], wanted, beside=beside)
    if len(names) > 1 or (names and _is_split(folders[names[0]], len(folders))):
        raise _no_such_split(root, split, names)
    return SplitFolder(root, wanted, whole=True)


def _holds_classes(folder: Path) -> bool:
    return bool(_class_count(folder)) or find_table(folder) is not None


def _is_split(folder: Path, n_folders: int) -> bool:
    """Whether a single folder with a split's name, which is not requested, is no class."""
    return n_folders == 1 or _class_count(folder) > 1 or find_table(folder) is not None


def _class_count(folder: Path) -> int:
    return len(contents(folder, Counter())[1])


def _no_such_split(root: Path, split: str, names: Sequence[str]) -> DataError:
    return DataError(
        f"--split: {_shown(root)} has no folder of this split",
        given=split,
        allowed=[_shown(name) for name in names] or "train, validation or test",
        todo="choose one of these splits",
    )


def _shown(path: Path | str) -> str:
    return valid_text(str(path))
