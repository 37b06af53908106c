"""Class ids of a class-conditional model for candidate names: by file, by name, or by index."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from diffcls.data.class_names import normalise, shorten
from diffcls.data.class_tables import class_indices
from diffcls.data.csv_tables import read_csv
from diffcls.data.prompts import PromptSet
from diffcls.support.errors import DataError, UsageError

logger = logging.getLogger(__name__)


def class_prompts(
    class_names: Sequence[str], labels: Sequence[str], path: str | Path | None = None
) -> PromptSet:
    """The prompts of a class-conditional model: class ids in decimal digits.

    Args:
        class_names: (K,) candidates.
        labels: names of the model's classes by id, synonyms separated by commas; empty strings
            for a model without class names.
        path: a CSV with columns ``classidx``, ``classid`` and, optional, ``classname``.

    Raises:
        UsageError: for a candidate that matches none or several of the model's classes; for more
            candidates than classes if the model has no class names; for an unconditional model.
        DataError: for a file that is missing or invalid.
    """
    if not labels:
        raise UsageError(
            "--model: the model is unconditional and cannot compare classes",
            todo="choose a text-to-image or a class-conditional model",
        )
    if path is not None:
        ids = _from_file(Path(path), class_names, len(labels))
    elif any(labels):
        ids = _by_name(class_names, labels)
    else:
        ids = _by_index(class_names, len(labels))
    return PromptSet(tuple(class_names), tuple(map(str, ids)), tuple(range(len(class_names))))


def _by_name(class_names: Sequence[str], labels: Sequence[str]) -> list[int]:
    ids_of: dict[str, set[int]] = defaultdict(set)
    for class_id, synonyms in enumerate(labels):
        for name in synonyms.split(","):
            if name.strip():
                ids_of[normalise(name)].add(class_id)
    ids = []
    for name in class_names:
        matches = sorted(ids_of.get(normalise(name), ()))
        if len(matches) != 1:
            raise UsageError(
                "candidate is none of the model's classes"
                if not matches
                else f"candidate is several of the model's classes, {matches}",
                given=f"{name!r} of {shorten(class_names)}",
                allowed=shorten([label for label in labels if label]),
                todo="map candidates to classes with --class-ids FILE",
            )
        ids.append(matches[0])
    return ids


def _by_index(class_names: Sequence[str], count: int) -> list[int]:
    if len(class_names) > count:
        raise UsageError(
            "more candidates than the model has classes",
            given=len(class_names),
            allowed=f"at most {count}",
            todo="map candidates to classes with --class-ids FILE",
        )
    logger.warning(
        "the model has no class names: candidate k is mapped to its class k, candidate 0 being %r",
        class_names[0],
    )
    return list(range(len(class_names)))


def _from_file(path: Path, class_names: Sequence[str], count: int) -> list[int]:
    table = read_csv(path, "--class-ids", ("classidx", "classid"), ("classname",))
    indices = class_indices(table, class_names, "--class-ids")
    ids: dict[int, int] = {}
    for row, index in zip(table.rows, indices, strict=True):
        class_id = row.whole_number("classid")
        if class_id >= count:
            raise DataError(
                f"{row.where}: classid out of range", given=class_id, allowed=f"below {count}"
            )
        if index in ids:
            raise DataError(
                f"{row.where}: classidx occurs twice",
                given=index,
                allowed="one class id for every candidate",
            )
        ids[index] = class_id
    return [ids[index] for index in range(len(class_names))]
