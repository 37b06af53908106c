"""Class names: order, comparison, words for prompts, and files of names (``--classnames``)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from diffcls.support.errors import UsageError

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
