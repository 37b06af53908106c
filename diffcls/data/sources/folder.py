"""Image folders: one folder per class, or a table with one sentence per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.image_formats import suffixes
from diffcls.data.image_tree import images_below, kind_of
from diffcls.data.sources import captions_table
from diffcls.data.sources.class_folders import class_folders
from diffcls.data.sources.split_folders import SplitFolder, find_split
from diffcls.data.subsets import part_of_whole
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, file_digest
from diffcls.support.text import valid_text

if TYPE_CHECKING:
    from PIL import Image

BESIDE_SPLITS = "folders beside the split folders"


def load(query: Query) -> Dataset:
    """A split of ``folder:PATH``, see `read`.

    Without a folder of any split, the whole folder is the test split, and a fixed, stratified tenth
    of it is held out of ``train`` as ``validation``.

    Raises:
        DataError: if the folder is missing, contains no image, or fewer than two classes.
    """
    root = query.root
    if root is None or not root.is_dir():
        raise DataError(
            "--dataset folder:PATH: image folder not found",
            given=str(root),
            allowed="a folder with one folder per class",
            todo="check the path",
        )
    place = find_split(root, query.split)
    dataset = _read(place, f"folder:{valid_text(root.resolve().name)}")
    if dataset is None:
        raise DataError(
            "--dataset folder:PATH: image folder contains no image",
            given=valid_text(str(place.folder)),
            allowed=f"CLASS/*, files ending in {' '.join(suffixes())}; "
            f"or {captions_table.TABLE_NAMES[0]} with file_name and text",
        )
    if place.whole:
        dataset = part_of_whole(dataset, place.split)
    if dataset.sentences and place.split != "train":
        passed_over = dataset.passed_over
        dataset = replace(captions_table.with_candidates(dataset), passed_over=passed_over)
    return dataset


def find(query: Query) -> Dataset | None:
    """Images of a data set of the catalog, one folder per class; None if there are none.

    The classes are folders of the root, or of a folder with the data set's name below it.
    """
    if query.root is None:
        return None
    own = query.root / query.spec.name
    root = own if own.is_dir() else query.root
    return read(root, query.split, query.spec.name)


def read(root: Path, split: str, name: str) -> Dataset | None:
    """Images in ``ROOT/SPLIT/CLASS/*``, or in ``ROOT/CLASS/*`` if there is no folder of a split.

    Split folders are found by `diffcls.data.sources.split_folders`, classes by
    `diffcls.data.sources.class_folders`. Class names are those of the folders; they are sorted as
    numbers if all are whole numbers, else as text. A table of captions in place of the classes is
    read by `diffcls.data.sources.captions_table`; a table without sentences is passed over if there
    are class folders.

    Returns:
        The data set; None if there is no image.

    Raises:
        DataError: if the root contains only folders of other splits, or folders that are not
            classes.
    """
    return _read(find_split(root, split), name)


def _read(place: SplitFolder, name: str) -> Dataset | None:
    passed_over = Counter({BESIDE_SPLITS: place.beside})
    table = captions_table.find_table(place.folder)
    if table is not None and captions_table.has_sentences(table):
        return _captioned(table, place, name, passed_over)
    classes = class_folders(place.folder, passed_over)
    if table is not None:
        if not classes:
            captions_table.read_table(table)  # its error says which column is missing
        passed_over[kind_of(table)] -= 1
        passed_over[f"{table.name} without {captions_table.COLUMNS}"] += 1
    files = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    if not files:
        return None
    if len(classes) == 1:
        raise _single_class(place.folder, *classes.items())
    class_names = [valid_text(folder.name) for folder in classes]
    dataset = dataset_of_files(files, place.folder, name, place.split, class_names)
    return replace(dataset, passed_over=dict(+passed_over))


def _captioned(table: Path, place: SplitFolder, name: str, passed_over: Counter[str]) -> Dataset:
    rows = captions_table.read_table(table)
    sentences = sorted({sentence for _, sentence in rows})
    label_of = {sentence: k for k, sentence in enumerate(sentences)}
    files = [(path, label_of[sentence]) for path, sentence in rows]
    dataset = dataset_of_files(files, place.folder, name, place.split, sentences)
    listed = {path.resolve() for path, _ in rows}
    images = images_below(place.folder, passed_over)
    passed_over[kind_of(table)] -= 1
    passed_over[f"images without a row in {table.name}"] = sum(
        path.resolve() not in listed for path in images
    )
    return replace(dataset, sentences=True, passed_over=dict(+passed_over))


def _single_class(base: Path, only: tuple[Path, Sequence[Path]]) -> DataError:
    """The error for one class, with the folder that may be meant instead."""
    folder, files = only
    inner = {path.relative_to(folder).parts[0] for path in files if path.parent != folder}
    return DataError(
        f"too few classes with images in {valid_text(str(base))}",
        given=[valid_text(folder.name)],
        allowed="two classes or more, one folder per class",
        todo=f"did you mean folder:{valid_text(str(folder))}?" if len(inner) > 1 else None,
    )


def dataset_of_files(
    files: Sequence[tuple[Path, int]],
    base: Path,
    name: str,
    split: str,
    class_names: Sequence[str],
    prompt_names: Sequence[str] = (),
) -> Dataset:
    """Data set of image files.

    Args:
        files: (n,) path and class index of each image.
        base: folder that the image ids are relative to.
        name, split, class_names, prompt_names: see `Dataset`.
    """
    return Dataset(
        name=name,
        split=split,
        class_names=tuple(class_names),
        items=tuple(Item(_id(path, base), label, _opener(path)) for path, label in files),
        revision=content_hash(*(part for path, _ in files for part in _signature(path, base))),
        prompt_names=tuple(prompt_names),
    )


def _opener(path: Path) -> Callable[[], Image.Image]:
    place = path.absolute()  # so that a folder with the name "~" is not expanded
    return lambda: load_image(place)


def _signature(path: Path, base: Path) -> tuple[str, bytes]:
    try:
        digest = file_digest(path)
    except OSError:  # the run records it as an image that cannot be read
        digest = b""
    return _id(path, base), digest


def _id(path: Path, base: Path) -> str:
    try:
        return valid_text(path.relative_to(base).as_posix())
    except ValueError:  # a table may name images elsewhere
        return valid_text(path.as_posix())
