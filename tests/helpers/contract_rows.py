"""Rows of docs/scikit-learn.md and the check of each: what is said there, done.

A check of a row "yes" passes where the thing works; one of a row "no" where it is missing or
refused as the row says. The rows of scikit-learn's own checks need none: they are run by name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.image_estimator import OPTIONS

from diffcls import DiffusionClassifier

PAGE = Path(__file__).parents[2] / "docs/scikit-learn.md"
LINE = re.compile(r"^\| `(?P<key>[^`]+)`[^|]* \| (?P<verdict>yes|no) \| (?P<reason>.+) \|$")


@dataclass(frozen=True)
class World:
    """Twelve small images of three classes, and an estimator of them.

    Args:
        calls: arguments of the loads of a model so far.
        folder: an empty folder.
    """

    calls: list[tuple[Any, ...]]
    folder: Path
    images: np.ndarray = field(default_factory=lambda: np.random.default_rng(0).random((12, 8, 8)))
    labels: np.ndarray = field(default_factory=lambda: np.arange(12) % 3)

    def make(self, **options: Any) -> DiffusionClassifier:
        return DiffusionClassifier(**{**OPTIONS, **options})

    def fitted(self, **options: Any) -> DiffusionClassifier:
        return self.make(**options).fit(self.images, self.labels)

    def files(self) -> list[str]:
        """Paths of the images, as files."""
        from PIL import Image

        paths = []
        for i, image in enumerate(self.images):
            path = self.folder / f"{i}.png"
            Image.fromarray((image * 255).round().astype(np.uint8)).save(path)
            paths.append(str(path))
        return paths


Check = Callable[[World], None]
CHECKS: dict[str, tuple[str, Check]] = {}
"""key of a row -> "yes" or "no", and its check"""


def yes(key: str) -> Callable[[Check], Check]:
    """Register the check of a row "yes"."""
    return _registered(key, "yes")


def no(key: str) -> Callable[[Check], Check]:
    """Register the check of a row "no"."""
    return _registered(key, "no")


def _registered(key: str, verdict: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        assert key not in CHECKS, key
        CHECKS[key] = verdict, check
        return check

    return register


def absent(name: str) -> None:
    """Register the check that a fitted estimator has no such attribute."""

    @no(name)
    def check(w: World) -> None:
        assert not hasattr(w.fitted(), name)


def not_an_argument(name: str) -> None:
    """Register the check that the constructor refuses an argument."""

    @no(f"{name}=")
    def check(w: World) -> None:
        with pytest.raises(TypeError, match=name):
            DiffusionClassifier(**{name: None})


@dataclass(frozen=True)
class Row:
    """A line of the page's tables."""

    key: str
    verdict: str
    reason: str
    section: str


def rows() -> list[Row]:
    """All rows of the page, in order."""
    found, section = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        match = LINE.match(line)
        if match:
            found.append(Row(**match.groupdict(), section=section))
    return found


def fields_of(tags: Any, prefix: str = "") -> list[str]:
    """Dotted names of the fields of scikit-learn's tags, those of its parts included."""
    names = []
    for f in dataclasses.fields(tags):
        value = getattr(tags, f.name)
        deeper = dataclasses.is_dataclass(value)
        names += fields_of(value, f"{prefix}{f.name}.") if deeper else [prefix + f.name]
    return names
