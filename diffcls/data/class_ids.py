"""Which class of a class-conditional model each candidate is: by file, by name, or by index."""

from __future__ import annotations

import csv
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from diffcls.data.prompts import PromptSet, normalise, shorten
from diffcls.support.errors import DataError, UsageError

logger = logging.getLogger(__name__)


def class_prompts(
    class_names: Sequence[str], labels: Sequence[str], path: str | Path | None = None
) -> PromptSet:
    """The candidates as a class-conditional model is asked about them: ids in decimal digits.

    Args:
        class_names: (K,) candidates.
        labels: names of the model's classes by id, synonyms separated by commas; empty where it
            knows none.
        path: a CSV with columns ``classidx``, ``classid`` and, optional, ``classname``.

    Raises:
        UsageError: for a candidate that is none of the model's classes, or several of them; for
            more candidates than classes where the model knows no names; for a model of no classes.
        DataError: for a file that is missing, or does not fit.
    """
    if not labels:
        raise UsageError(
            "an unconditional model says nothing about classes",
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
    found: dict[str, set[int]] = defaultdict(set)
    for class_id, synonyms in enumerate(labels):
        for name in synonyms.split(","):
            if name.strip():
                found[normalise(name)].add(class_id)
    ids = []
    for name in class_names:
        matches = sorted(found.get(normalise(name), ()))
        if len(matches) != 1:
            raise UsageError(
                "candidate is none of the model's classes"
                if not matches
                else f"candidate is several of the model's classes, {matches}",
                given=f"{name!r} of {shorten(class_names)}",
                allowed=shorten([label for label in labels if label]),
                todo="say which class each is: --class-ids FILE",
            )
        ids.append(matches[0])
    return ids


def _by_index(class_names: Sequence[str], count: int) -> list[int]:
    if len(class_names) > count:
        raise UsageError(
            "more candidates than the model has classes",
            given=len(class_names),
            allowed=f"at most {count}",
            todo="say which class each is: --class-ids FILE",
        )
    logger.warning(
        "the model does not name its classes: candidate 0, %r, is taken for its class 0, and so on",
        class_names[0],
    )
    return list(range(len(class_names)))


def _from_file(path: Path, class_names: Sequence[str], count: int) -> list[int]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True))
        pairs = [(int(row["classidx"]), int(row["classid"])) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise DataError(
            f"cannot read class ids ({type(error).__name__}: {error})",
            given=str(path),
            allowed="a CSV in UTF-8 with classidx, classid and, optional, classname",
        ) from None
    for row, (index, class_id) in zip(rows, pairs, strict=True):
        name = row.get("classname")
        if not 0 <= index < len(class_names) or not 0 <= class_id < count:
            raise DataError(
                "class ids out of range",
                given=f"classidx {index}, classid {class_id}",
                allowed=f"classidx below {len(class_names)}, classid below {count}",
            )
        if name and normalise(name) != normalise(class_names[index]):
            raise DataError(
                f"classname of classidx {index} differs from the data set's",
                given=f"{name!r} in {shorten([r.get('classname') for r in rows])}",
                allowed=f"{class_names[index]!r} in {shorten(class_names)}",
            )
    ids = dict(pairs)
    if len(pairs) != len(class_names) or len(ids) != len(class_names):
        raise DataError(
            "class ids do not cover the candidates, one each",
            given=f"classidx {shorten(sorted(index for index, _ in pairs))}",
            allowed=f"0 to {len(class_names) - 1}: {shorten(class_names)}",
        )
    return [ids[index] for index in range(len(class_names))]
