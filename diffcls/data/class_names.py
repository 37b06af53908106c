"""Class names: order, comparison, words for prompts, and files of names (``--classnames``)."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from diffcls.data.csv_tables import LINE_BREAK, has_columns, read_csv, read_text
from diffcls.data.dataset import Dataset
from diffcls.support.errors import DataError, UsageError

logger = logging.getLogger(__name__)

FLAG = "--classnames"
MAX_CLASSES_SHOWN = 10
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def sort_names(names: Iterable[str]) -> list[str]:
    """Class names in the order of their class indices.

    Names that are all whole numbers are sorted by value, so that "10" follows "9"; any other names
    are sorted as text.
    """
    names = sorted(names)
    if all(WHOLE_NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=int)
    return names


def words_of(folder_name: str) -> str:
    """The words of a folder's or column's class name for prompts and training captions.

    ``american_bulldog`` becomes "american bulldog". Composed and decomposed accents (Unicode NFC
    and NFD, as file systems store them) become the same text.
    """
    name = unicodedata.normalize("NFC", folder_name)
    return " ".join(name.replace("_", " ").split()) or name


def same_name(name: str) -> str:
    """The name as compared with other names: Unicode NFC, without outer spaces, without case."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def normalise(name: str) -> str:
    """The name without case, spaces, ``_``, ``-`` and ``/``, for joining tables by name only."""
    return re.sub(r"[\s_/-]+", "", unicodedata.normalize("NFC", name)).lower()


def check_own_names(names: Iterable[str], of: str) -> None:
    """Check the class names of a person's own data: none empty, all different.

    Args:
        names: the names, each of which is one class.
        of: where the names stand, for the message: "labels", "folders of classes".

    Raises:
        UsageError: for an empty name, or for names that differ only in case, outer spaces or
            Unicode form.
    """
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(same_name(name), []).append(name)
    if "" in spellings:
        raise UsageError(f"empty name among the {of}", given=spellings[""][0])
    duplicates = [group for group in spellings.values() if len(group) > 1]
    if duplicates:
        raise UsageError(
            f"duplicate {of}",
            given=[name for group in duplicates[:4] for name in dict.fromkeys(group[:3])],
            allowed="names that differ in more than case, spaces around them and Unicode form",
            todo="give each class one name",
        )


def shorten(values: Sequence[object], limit: int = 12) -> str:
    """The first values of a list as text, with the number of all of them if some are left out."""
    shown = ", ".join(map(str, values[:limit]))
    return shown + (f", … ({len(values)} in all)" if len(values) > limit else "")


def show_order(names: Sequence[str]) -> str:
    """The first names with their class indices: ``0 = 'cat', 1 = 'dog', … (12 in all)``."""
    shown = ", ".join(f"{k} = {name!r}" for k, name in enumerate(names[:MAX_CLASSES_SHOWN]))
    return shown + (f", … ({len(names)} in all)" if len(names) > MAX_CLASSES_SHOWN else "")


# ---- files of class names ------------------------------------------------------------------------


def rename_classes(dataset: Dataset, path: str | Path) -> Dataset:
    """The data set with the class names of a file, see `read_class_names`.

    Raises:
        UsageError: for images with sentences in place of classes.
    """
    if dataset.sentences:
        raise UsageError(
            f"{FLAG}: the images have sentences, not classes",
            given=dataset.name,
            todo="remove it",
        )
    names = read_class_names(Path(path), dataset.class_names)
    return replace(dataset, class_names=names, prompt_names=())


def read_class_names(path: Path, class_names: Sequence[str]) -> tuple[str, ...]:
    """The names that a file gives to the classes of a person's own data.

    Args:
        path: a text file with one name per line, in the order of the classes; or a CSV with the
            columns ``classidx, classname`` or ``folder, classname``.
        class_names: (K,) present names, which are those of folders or of a label column.

    Returns:
        (K,) new names by class index.

    Raises:
        DataError: for a file that cannot be read, or does not name every class once.
        UsageError: for duplicate names, see `check_own_names`.
    """
    if has_columns(path, FLAG, ("folder", "classname")):
        names = _names_by_folder(path, class_names)
    elif path.suffix.lower() in (".csv", ".tsv") or has_columns(path, FLAG, ("classname",)):
        names = _names_by_index(path, class_names)
    else:
        names = _names_by_line(path, class_names)
        renamed = [f"{old} as {new}" for old, new in zip(class_names, names, strict=True)]
        logger.warning("%s: classes in their order: %s", FLAG, show_order(renamed))
    check_own_names(names, f"names in {FLAG}")
    return tuple(names)


def count_names(path: Path) -> int:
    """The number of classes that a file names, see `read_class_names`.

    Raises:
        DataError: for a file that cannot be read.
    """
    if path.suffix.lower() in (".csv", ".tsv") or has_columns(path, FLAG, ("classname",)):
        return len(read_csv(path, FLAG, ("classname",)).rows)
    return len(_lines(path))


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in LINE_BREAK.split(read_text(path, FLAG))]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _names_by_line(path: Path, class_names: Sequence[str]) -> list[str]:
    lines = _lines(path)
    if "" in lines:
        raise DataError(f"{FLAG}: line {1 + lines.index('')} is empty", allowed="one name per line")
    if len(lines) != len(class_names):
        raise DataError(
            f"{FLAG}: file has {len(lines)} names, the data set {len(class_names)} classes",
            given=shorten(lines),
            allowed=f"one name per line for each of {shorten(class_names)}",
        )
    return lines


def _names_by_index(path: Path, class_names: Sequence[str]) -> list[str]:
    table = read_csv(path, FLAG, ("classidx", "classname"))
    rows = [(row.whole_number("classidx"), row.text("classname").strip()) for row in table.rows]
    names = dict(rows)
    if len(rows) != len(names) or set(names) != set(range(len(class_names))):
        raise DataError(
            f"{FLAG}: table does not name every class once",
            given=f"classidx {shorten([index for index, _ in rows])}",
            allowed=f"each of 0 to {len(class_names) - 1} once: {shorten(class_names)}",
        )
    return [names[index] for index in range(len(class_names))]


def _names_by_folder(path: Path, class_names: Sequence[str]) -> list[str]:
    table = read_csv(path, FLAG, ("folder", "classname"))
    rows = [(same_name(row.text("folder")), row.text("classname").strip()) for row in table.rows]
    names = dict(rows)
    if len(rows) != len(names) or set(names) != set(map(same_name, class_names)):
        raise DataError(
            f"{FLAG}: table does not name every folder once",
            given=shorten([row.cells["folder"] for row in table.rows]),
            allowed=shorten(class_names),
        )
    return [names[same_name(name)] for name in class_names]
