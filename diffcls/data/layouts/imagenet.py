"""ImageNet (ILSVRC 2012) in its usual layout: one folder per WordNet id, such as ``n01440764``.

Russakovsky et al. 2015 (arXiv:1409.0575). Class names are CLIP's list of 1,000 names (Radford et
al. 2021), in the order of the sorted ids.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import Counter
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.image_tree import images_below
from diffcls.data.layouts.files import read_json_object, read_lines
from diffcls.data.sources.folder import dataset_of_files
from diffcls.support.errors import DataError

SPLIT_FOLDERS = {"test": ("val", "validation", "test", ""), "train": ("train", "")}
PARENT_FOLDERS = ("", "imagenet", "ILSVRC/Data/CLS-LOC", "imagenet/ILSVRC/Data/CLS-LOC")
WORDNET_ID = re.compile(r"n\d{8}")
FLAT_IMAGE = re.compile(r"ILSVRC2012_val_\d{8}\.jpe?g", re.IGNORECASE)
CLASS_COUNT = 1000
MAPPING_FILES = ("LOC_synset_mapping.txt", "imagenet_class_index.json")


def load(query: Query) -> Dataset | None:
    """The validation images as ``test``, or the training images as ``train``.

    Images are read from ``val/WORDNET_ID/*.JPEG`` or ``train/WORDNET_ID/*.JPEG``. With fewer than
    1,000 folders, the candidates are the classes of these folders, in the order of all 1,000; their
    class indices are read from a file of the Kaggle copy or of Keras (`MAPPING_FILES`).

    Raises:
        DataError: if the images are not in folders per class, the class of a folder is unknown, or
            open_clip, which provides the class names, is not installed.
    """
    base = _split_folder(query)
    if query.root is None or base is None:
        return None
    folders = _class_folders(base)
    order = _order(base, query.root, [folder.name for folder in folders])
    names = class_names()
    passed_over = Counter[str]()
    files = [
        (path, label)
        for label, folder in enumerate(folders)
        for path in images_below(folder, passed_over)
    ]
    present = [names[order[folder.name]] for folder in folders]
    dataset = dataset_of_files(files, base, query.spec.name, query.split, present)
    return replace(dataset, passed_over=dict(passed_over))


def class_names() -> tuple[str, ...]:
    """CLIP's 1,000 names by class index; two names occur twice.

    Source: open_clip's ``zero_shot_metadata.py``, loaded alone because the package imports torch.

    Raises:
        DataError: if open_clip is not installed, or lacks the names.
    """
    try:
        names = tuple(_metadata().IMAGENET_CLASSNAMES)
    except (ImportError, AttributeError):
        names = ()
    if len(names) != CLASS_COUNT:
        raise DataError(
            "the class names of ImageNet require open_clip, which is not installed or lacks them",
            todo='pip install "diffcls[clip]"',
        )
    return names


def _metadata() -> Any:
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ImportError("open_clip")
    path = Path(package.origin).with_name("zero_shot_metadata.py")
    module = ModuleType("open_clip_names")
    try:
        SourceFileLoader(module.__name__, str(path)).exec_module(module)
    except (ImportError, OSError):  # the file imports other parts of the package
        return importlib.import_module("open_clip.zero_shot_metadata")
    return module


def _split_folder(query: Query) -> Path | None:
    """The folder of the split, which contains the folders of the classes."""
    if query.root is None:
        return None
    for parent in PARENT_FOLDERS:
        for name in SPLIT_FOLDERS[query.split]:
            base = query.root / parent / name
            if not base.is_dir():
                continue
            if _class_folders(base):
                return base
            if any(FLAT_IMAGE.fullmatch(path.name) for path in base.iterdir()):
                raise DataError(
                    "images of ImageNet are not in folders per class",
                    given=str(base),
                    allowed="val/n01440764/*.JPEG",
                    todo="move each image into the folder of its WordNet id, listed in "
                    "LOC_val_solution.csv of the Kaggle copy",
                )
    return None


def _class_folders(base: Path) -> list[Path]:
    return sorted(p for p in base.iterdir() if WORDNET_ID.fullmatch(p.name) and p.is_dir())


def _order(base: Path, root: Path, present: list[str]) -> dict[str, int]:
    """WordNet id -> class index in [0, 1000), including all folders in `present`."""
    inside = [folder for folder in (base, *base.parents) if folder.is_relative_to(root)]
    paths = [folder / name for folder in (*inside, root.parent) for name in MAPPING_FILES]
    path = next((path for path in paths if path.is_file()), None)
    if path is not None:
        wordnet_ids = _read_order(path)
    elif len(present) == CLASS_COUNT:
        wordnet_ids = present
    else:
        raise DataError(
            "cannot determine the ImageNet class of each folder",
            given=f"{len(present)} folders in {base}",
            allowed=f"{CLASS_COUNT} folders, or fewer and one of {', '.join(MAPPING_FILES)}",
            todo=f"copy such a file into {root}",
        )
    index = {name: i for i, name in enumerate(wordnet_ids)}
    unknown = [name for name in present if name not in index]
    if unknown:
        raise DataError(
            f"folders are not classes of {path}",
            given=unknown[:10],
            todo="remove these folders, or use the list of the same version of ImageNet",
        )
    return index


def _read_order(path: Path) -> list[str]:
    """The 1,000 WordNet ids of a mapping file, by class index."""
    try:
        if path.suffix == ".json":
            pairs = read_json_object(path).items()
            wordnet_ids = [str(name) for _, name in sorted((int(k), p[0]) for k, p in pairs)]
        else:
            wordnet_ids = [line.split()[0] for line in read_lines(path)]
    except (ValueError, TypeError, LookupError):
        wordnet_ids = []
    # in another order, such as that of the development kit, images would get wrong class names
    valid = len(set(wordnet_ids)) == CLASS_COUNT and wordnet_ids == sorted(wordnet_ids)
    if not valid or not all(WORDNET_ID.fullmatch(name) for name in wordnet_ids):
        raise DataError(
            "file is not the list of ImageNet's classes",
            given=str(path),
            allowed=f"{CLASS_COUNT} different WordNet ids in ascending order",
        )
    return wordnet_ids
