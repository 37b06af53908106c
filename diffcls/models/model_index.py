"""Index of a pipeline, ``model_index.json``: its family, and the class of each of its parts.

Only the classes that `diffcls.models.family_table` lists are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.models.family_table import (
    EDITOR_TABLE,
    FAMILY_TABLE,
    UNUSED,
    family_named,
    optional_parts,
)
from diffcls.models.json_files import read_json, shortened, wrong_value
from diffcls.models.unsupported_families import refusal
from diffcls.support.errors import ModelError

INDEX = "model_index.json"
SAVE_AS = "save it so: {name}.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"


@dataclass(frozen=True)
class ModelIndex:
    """Content of ``model_index.json``.

    Args:
        family: name of the pipeline's class.
        parts: part -> library and class; None for a part that the pipeline lacks, or that is not
            used.
        settings: entries beside the parts, such as DiT's class names.
        named: all entries that name a class, those of unused parts too.
        path: the file.
    """

    family: str
    parts: Mapping[str, tuple[str, str] | None]
    settings: Mapping[str, Any]
    named: tuple[str, ...]
    path: Path


def read_index(folder: Path, editor: bool = False) -> ModelIndex:
    """Read the index of a pipeline, and check it without opening a part.

    Args:
        folder: folder of the pipeline.
        editor: whether instruction editors are read too, which classify no images.

    Raises:
        ModelError: for a family that is not supported, a part that is missing or of a class that
            its family does not use, or an entry of another type.
    """
    path = folder / INDEX
    content = read_json(path)
    family = content.get("_class_name")
    known = {*FAMILY_TABLE, *EDITOR_TABLE} if editor else {*FAMILY_TABLE}
    if not isinstance(family, str) or family not in known:
        raise refusal("model family not supported", shortened(family), SAVE_AS)
    classes, optional = family_named(family).parts, optional_parts(family)
    parts: dict[str, tuple[str, str] | None] = {}
    settings: dict[str, Any] = {}
    for name, entry in content.items():
        if name.startswith("_"):
            continue
        if name in classes:
            parts[name] = _class_of(path, name, entry, *classes[name])
        elif name in UNUSED:
            parts[name] = None
        elif isinstance(entry, list) and entry != [None, None]:
            raise ModelError(
                f"part {shortened(name)!r} of the model is not one of a {family}",
                given=shortened(entry),
                allowed=classes,
            )
        else:
            settings[name] = entry
    for name in classes:
        if parts.get(name) is None and name not in optional:
            raise ModelError(
                f"part {name!r} of the model is missing",
                given=str(path),
                allowed=f"the parts of a {family}: {', '.join(classes)}",
            )
    for group in family_named(family).optional:
        if len({parts.get(name) is None for name in group}) == 2:
            raise ModelError(f"only one of {' and '.join(group)} is there", given=str(path))
    _check_class_names(path, settings.get("id2label", {}))
    named = [
        name
        for name in (*classes, *UNUSED)
        if isinstance(entry := content.get(name), list) and entry and entry[0]
    ]
    return ModelIndex(family, parts, settings, tuple(named), path)


def _class_of(
    path: Path, part: str, entry: object, library: str, pattern: str
) -> tuple[str, str] | None:
    """Library and class of an entry; None for a part that is left out."""
    if entry is None or entry == [None, None]:
        return None
    if not isinstance(entry, list) or len(entry) != 2:
        raise wrong_value(path, part, entry, "a library and a class of it, as a list of two texts")
    class_name = entry[1]
    known = isinstance(class_name, str) and re.fullmatch(pattern, class_name, re.ASCII)
    if entry[0] != library or not known:
        raise ModelError(
            f"part {part!r} of the model is of a class that this family does not use",
            given=shortened(entry),
            allowed=f"{shown(pattern)} of {library}; code of a model is never run",
        )
    return library, class_name


def shown(pattern: str) -> str:
    """The classes that a pattern of `diffcls.models.family_table` accepts, for a message."""
    names = pattern.replace(r"\w+", "any ").replace("(?:Fast)?", "")
    group = re.fullmatch(r"(.*?)\(\?:(.*)\)(\w*)", names)
    if group is None:
        return names.replace("|", ", ")
    plain, stems, end = group.groups()
    return ", ".join([*plain.strip("|").split("|"), *(s + end for s in stems.split("|"))])


def _check_class_names(path: Path, names: object) -> None:
    """Raise unless `names` maps class ids to texts, as DiT's ``id2label`` does."""
    allowed = "texts by class id"
    if not isinstance(names, dict):
        raise wrong_value(path, "id2label", names, allowed)
    for key, text in names.items():
        if not key.isdecimal() or not isinstance(text, str):
            raise wrong_value(path, f"id2label[{key!r}]", text, allowed)
