"""Class folders: the folders of an image folder that are its classes, with their images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from diffcls.data.class_names import shorten, sort_names
from diffcls.data.image_formats import is_image_file
from diffcls.data.image_tree import contents, images_below, kind_of
from diffcls.data.split_names import split_of
from diffcls.support.errors import DataError
from diffcls.support.text import valid_text

OUTSIDE = "images outside the class folders"
WITHOUT_IMAGES = "folder without images: {}"
FURTHER_WITHOUT_IMAGES = "further folders without images"
MAX_NAMED_FOLDERS = 5


def class_folders(base: Path, passed_over: Counter[str]) -> dict[Path, list[Path]]:
    """The class folders of `base` in the order of the class indices, each with its images.

    Folders without images are passed over, and so are files outside of the class folders.

    Args:
        base: the folder.
        passed_over: kind -> count of what is passed over, which is added to.

    Raises:
        DataError: if two class folders are one, or if the folders are not classes: if they contain
            the same folders, as those of splits do.
    """
    files, folders = contents(base, passed_over)
    for path in files:
        passed_over[OUTSIDE if is_image_file(path) else kind_of(path)] += 1
    folders.sort()
    _check_distinct(folders)
    images = {folder.name: images_below(folder, passed_over, folders) for folder in folders}
    empty = [folder for folder in folders if not images[folder.name]]
    for folder in empty[:MAX_NAMED_FOLDERS]:
        passed_over[WITHOUT_IMAGES.format(valid_text(folder.name))] += 1
    if len(empty) > MAX_NAMED_FOLDERS:
        passed_over[FURTHER_WITHOUT_IMAGES] += len(empty) - MAX_NAMED_FOLDERS
    names = sort_names(name for name, paths in images.items() if paths)
    classes = {base / name: images[name] for name in names}
    _check_not_splits(base, classes)
    return classes


def _check_distinct(folders: Sequence[Path]) -> None:
    by_target: dict[Path, list[str]] = defaultdict(list)
    for folder in folders:
        by_target[folder.resolve()].append(valid_text(folder.name))
    same = next((names for names in by_target.values() if len(names) > 1), None)
    if same:
        raise DataError(
            "class folders are links to the same folder",
            given=same,
            todo="remove all but one of them",
        )


def _check_not_splits(base: Path, classes: Mapping[Path, Sequence[Path]]) -> None:
    """Raise DataError if two classes contain the same folders: splits with classes, or the reverse.

    Two equal names, and half of all, are too many; so is a single one that is a split's.
    """
    holders: dict[str, list[Path]] = defaultdict(list)
    inner: dict[Path, set[str]] = {}
    for folder, files in classes.items():
        inner[folder] = _inner_folders(path.relative_to(folder).parts for path in files)
        shared = Counter(other for name in inner[folder] for other in holders[name])
        for other, count in shared.items():
            equal = inner[folder] & inner[other]
            half = 2 * count >= min(len(inner[folder]), len(inner[other]))
            if (count > 1 and half) or any(map(split_of, equal)):
                raise DataError(
                    f"folders of {valid_text(str(base))} are not classes: they contain the same "
                    "folders",
                    given=[valid_text(folder.name) for folder in (other, folder)],
                    allowed=f"one folder per class; both contain "
                    f"{shorten([valid_text(name) for name in sort_names(equal)], 5)}",
                    todo="if they are splits, rename them to train, validation and test; if they "
                    "are classes, move their images out of these folders",
                )
        for name in inner[folder]:
            holders[name].append(folder)


def _inner_folders(paths: Iterable[tuple[str, ...]]) -> set[str]:
    """Names of the folders that divide the images of a class.

    A folder that holds all images divides nothing: the folders in it are returned instead.

    Args:
        paths: parts of the image paths relative to the class folder.
    """
    remaining = list(paths)
    while True:
        heads = {parts[0] if len(parts) > 1 else "" for parts in remaining}
        if len(heads) > 1 or "" in heads:
            return heads - {""}
        if split_of(next(iter(heads))):
            return heads
        remaining = [parts[1:] for parts in remaining]
