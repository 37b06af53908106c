"""Split names: the spellings of train, validation and test in the names of folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

SPELLINGS = {
    "train": ("train", "training", "trainval"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Split -> its spellings: those that the library datasets recognises, and ``trainval``."""

SPLIT_OF = {spelling: split for split, names in SPELLINGS.items() for spelling in names}
DECORATIONS = ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "split")
"""Words beside a split's name that tell nothing more, as in ``training_set`` or ``testset``."""

CASE_CHANGE = re.compile(r"(?<=[a-z])(?=[A-Z])")
WORD = re.compile(r"[^\W\d_]+|\d+")
YEAR = re.compile(r"(?:19|20)\d\d")


def split_of(name: str) -> str | None:
    """``train``, ``validation`` or ``test`` for a name that is a spelling of it; else None.

    Case, decoration and a year are ignored: ``Testing``, ``val2017``, ``TrainSet``.
    """
    split, rest = _parts(name)
    return split if not rest else None


def split_in(name: str) -> str | None:
    """The split that a name tells beside other words: ``validation`` for ``imagenet-val-0001``."""
    return _parts(name)[0]


def split_folders(names: Iterable[str]) -> dict[str, list[str]]:
    """Split -> the names that are spellings of it, for names that are not those of classes.

    They are names without other words (`split_of`), and two names or more with the same other
    words: ``seg_train`` and ``seg_test``, but not "train station" and "test tube".
    """
    by_rest: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for name in sorted(names):
        split, rest = _parts(name)
        if split is not None:
            by_rest[rest].append((split, name))
    found: dict[str, list[str]] = defaultdict(list)
    for rest, members in by_rest.items():
        if not rest or len({split for split, _ in members}) > 1:
            for split, name in members:
                found[split].append(name)
    return dict(found)


def _parts(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a name contains, and the words of the name that say something else."""
    words = [_undecorated(word.lower()) for word in WORD.findall(CASE_CHANGE.sub(" ", name))]
    splits = [SPLIT_OF[word] for word in words if word in SPLIT_OF]
    if not splits:
        return None, ()
    rest = (w for w in words if w and w not in SPLIT_OF and not YEAR.fullmatch(w))
    return splits[0], tuple(rest)


def _undecorated(word: str) -> str:
    for decoration in DECORATIONS:
        stem = word.removesuffix(decoration)
        if stem != word and (not stem or stem in SPLIT_OF):
            return stem
    return word
