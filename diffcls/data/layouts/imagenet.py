"""ImageNet's validation images (ILSVRC 2012) as most have them: one folder a WordNet id.

Russakovsky et al. 2015 (arXiv:1409.0575). The folders are called ``n01440764``; what is in them is
said by CLIP's list of 1,000 names (Radford et al. 2021), in the order of the sorted ids.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import lines, table
from diffcls.data.sources.folder import SUFFIXES, of_files
from diffcls.support.errors import DataError

SPLIT_FOLDERS = {"test": ("val", "validation", "test", ""), "train": ("train", "")}
BELOW = ("", "imagenet", "ILSVRC/Data/CLS-LOC", "imagenet/ILSVRC/Data/CLS-LOC")
WORDNET_ID = re.compile(r"n\d{8}")
FLAT = re.compile(r"ILSVRC2012_val_\d{8}\.jpe?g", re.IGNORECASE)
CLASSES = 1000
MAPPING_FILES = ("LOC_synset_mapping.txt", "imagenet_class_index.json")


def load(query: Query) -> Dataset | None:
    """The validation images as ``test``, or ``train``, in ``val/WORDNET_ID/*.JPEG``.

    Of fewer than 1,000 folders, the classes there are the candidates, in the order of all 1,000;
    which those are is read from a file of the Kaggle copy or of Keras (`MAPPING_FILES`).

    Raises:
        DataError: when the images lie in no folders of classes, when it is not known which class a
            folder is, or when open_clip, which has the names, is not installed.
    """
    base = _base(query)
    if query.root is None or base is None:
        return None
    folders = _class_folders(base)
    order = _order(base, query.root, [folder.name for folder in folders])
    names = class_names()
    files = [
        (path, label)
        for label, folder in enumerate(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    present = [names[order[folder.name]] for folder in folders]
    return of_files(files, base, query.spec.name, query.split, present)


def class_names() -> tuple[str, ...]:
    """CLIP's 1,000 names by class index; two of them stand for two classes each.

    Source: open_clip's ``zero_shot_metadata.py``, read alone, as the package would load torch.

    Raises:
        DataError: where open_clip is not installed, or does not have them.
    """
    try:
        names = tuple(_metadata().IMAGENET_CLASSNAMES)
    except (ImportError, AttributeError):
        names = ()
    if len(names) != CLASSES:
        raise DataError(
            "the class names of ImageNet are open_clip's, and it is not installed or lacks them",
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
    except (ImportError, OSError):  # not a file that can be read alone
        return importlib.import_module("open_clip.zero_shot_metadata")
    return module


def _base(query: Query) -> Path | None:
    """The folder that the classes' folders are in."""
    if query.root is None:
        return None
    for below in BELOW:
        for name in SPLIT_FOLDERS[query.split]:
            base = query.root / below / name
            if not base.is_dir():
                continue
            if _class_folders(base):
                return base
            if any(FLAT.fullmatch(path.name) for path in base.iterdir()):
                raise DataError(
                    "ImageNet's images lie side by side, without the folders of their classes",
                    given=str(base),
                    allowed="val/n01440764/*.JPEG",
                    todo="move each into the folder of its WordNet id; the Kaggle copy's "
                    "LOC_val_solution.csv says which that is",
                )
    return None


def _class_folders(base: Path) -> list[Path]:
    return sorted(p for p in base.iterdir() if WORDNET_ID.fullmatch(p.name) and p.is_dir())


def _order(base: Path, root: Path, present: list[str]) -> dict[str, int]:
    """WordNet id -> class index in [0, 1000), for the folders that are there."""
    inside = [folder for folder in (base, *base.parents) if folder.is_relative_to(root)]
    paths = [folder / name for folder in (*inside, root.parent) for name in MAPPING_FILES]
    path = next((path for path in paths if path.is_file()), None)
    if path is not None:
        wordnet_ids = _read_order(path)
    elif len(present) == CLASSES:
        wordnet_ids = present
    else:
        raise DataError(
            "which of ImageNet's classes are these",
            given=f"{len(present)} folders in {base}",
            allowed=f"{CLASSES} folders, or fewer and one of {', '.join(MAPPING_FILES)}",
            todo=f"put such a file into {root}",
        )
    index = {name: i for i, name in enumerate(wordnet_ids)}
    unknown = [name for name in present if name not in index]
    if unknown:
        raise DataError(f"folders of no class in {path}", given=unknown[:10])
    return index


def _read_order(path: Path) -> list[str]:
    """The 1,000 WordNet ids of a file, by class index."""
    try:
        if path.suffix == ".json":
            found = sorted((int(index), pair[0]) for index, pair in table(path).items())
            wordnet_ids = [str(name) for _, name in found]
        else:
            wordnet_ids = [line.split()[0] for line in lines(path)]
    except (ValueError, TypeError, LookupError):
        wordnet_ids = []
    # in any other order (the development kit has one) the names would be those of other classes
    good = len(set(wordnet_ids)) == CLASSES and wordnet_ids == sorted(wordnet_ids)
    if not good or not all(WORDNET_ID.fullmatch(name) for name in wordnet_ids):
        raise DataError(
            "not the list of ImageNet's classes",
            given=str(path),
            allowed=f"{CLASSES} different WordNet ids in ascending order",
        )
    return wordnet_ids
