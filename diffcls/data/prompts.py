"""What each class is called, and in which words the model is asked about it."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.support.errors import DataError, UsageError

AGGREGATES = ("classes", "prompts")
"""What several prompts a class do: average to one error of the class, or race each for itself."""


@dataclass(frozen=True)
class PromptSet:
    """K classes and their P >= K prompts; several prompts of a class average to one error.

    Args:
        class_names: (K,) names, K >= 2; data sets of their own may repeat a name (ImageNet does).
        prompts: (P,) texts, none empty.
        class_of: (P,) class index of each prompt; every class has one at least.
        asked: how many of the classes an image is asked about, where each has candidates of its
            own; 0: all of them.

    Raises:
        UsageError: when shapes do not match, a class has no prompt, or there is one class only.
    """

    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    class_of: tuple[int, ...]
    asked: int = 0

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise UsageError(
                "a classifier needs two labels or more",
                given=list(self.class_names),
                todo="add candidate labels",
            )
        if len(self.prompts) != len(self.class_of):
            raise UsageError(
                "prompts and their classes differ in number",
                given=(len(self.prompts), len(self.class_of)),
            )
        for text in (*self.class_names, *self.prompts):
            if not isinstance(text, str) or not text.strip():
                raise UsageError("empty label or prompt", given=text, allowed="text")
        missing = set(range(len(self.class_names))) - set(self.class_of)
        if missing or len(set(self.class_of)) != len(self.class_names):
            names = [self.class_names[i] for i in sorted(missing)]
            raise UsageError("classes without a prompt, or prompts of no class", given=names)

    @classmethod
    def from_templates(
        cls,
        class_names: Sequence[str],
        templates: Sequence[str],
        fillings: Sequence[str] = (),
        asked: int = 0,
    ) -> PromptSet:
        """Every template filled with every class name.

        Args:
            class_names: (K,) names; a person's own must be unique (see `check_labels`).
            templates: one or more texts with one ``{}``.
            fillings: (K,) what goes there; without any, the class names.
            asked: see the class.

        Raises:
            UsageError: for a template without exactly one ``{}``.
        """
        if not templates:
            raise UsageError("no template", allowed='one or more texts such as "a photo of a {}."')
        for template in templates:
            if template.count("{}") != 1:
                raise UsageError(
                    "template does not have exactly one place for the class name",
                    given=template,
                    allowed='a text with one {}, such as "a photo of a {}."',
                )
        return cls(
            tuple(class_names),
            tuple(t.replace("{}", name) for name in fillings or class_names for t in templates),
            tuple(i for i in range(len(class_names)) for _ in templates),
            asked,
        )

    @classmethod
    def from_csv(cls, path: str | Path, class_names: Sequence[str]) -> PromptSet:
        """Prompts from a CSV with columns ``prompt``, ``classidx`` and, optional, ``classname``.

        Rows are joined to the data set by ``classidx``; a ``classname`` that differs from the data
        set's own (ignoring case, ``_``, ``-`` and ``/``) is refused, so a shuffled class order
        cannot pass unseen.

        Raises:
            DataError: when the file is missing, lacks a column, or does not match the classes.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError("prompts file not found", given=str(path), todo="check --prompts")
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                rows = list(reader)
                columns = reader.fieldnames or []
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"cannot read prompts file ({error})", given=str(path), allowed="a CSV in UTF-8"
            ) from None
        if "prompt" not in columns or "classidx" not in columns:
            raise DataError(
                "prompts file lacks a column",
                given=list(columns),
                allowed="prompt, classidx and, optional, classname",
            )
        try:
            class_of = tuple(int(row["classidx"]) for row in rows)
        except (TypeError, ValueError):
            raise DataError("classidx is not a whole number", given=str(path)) from None
        _check_join(rows, class_of, class_names)
        return cls(tuple(class_names), tuple(row["prompt"] for row in rows), class_of)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def average(self, errors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(P, N) errors of prompts -> (K, N) of classes: the mean over a class's prompts.

        NaN where any prompt of the class is not evaluated.
        """
        if self.class_of == tuple(range(self.n_classes)):
            return errors
        total = np.zeros((self.n_classes, errors.shape[1]))
        np.add.at(total, np.array(self.class_of), errors)
        counts = np.bincount(self.class_of, minlength=self.n_classes)
        return (total / counts[:, None]).astype(np.float32)

    def rows_of(self, class_index: int) -> tuple[int, ...]:
        """Indices of the prompts of one class."""
        return self._rows[class_index]

    @cached_property
    def _rows(self) -> tuple[tuple[int, ...], ...]:
        found: list[list[int]] = [[] for _ in self.class_names]
        for row, k in enumerate(self.class_of):
            found[k].append(row)
        return tuple(map(tuple, found))


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """A person's own candidate labels, unique and two at least.

    Raises:
        UsageError: for fewer than two labels, or the same one twice.
    """
    if isinstance(labels, str):
        raise UsageError("candidate labels are one text", given=labels, allowed="a list of texts")
    labels = tuple(labels)
    for label in labels:
        if not isinstance(label, str):
            raise UsageError("candidate label is no text", given=label, allowed="a list of texts")
    if len(labels) < 2:
        raise UsageError("a classifier needs two labels or more", given=list(labels))
    names = Counter(" ".join(label.split()) for label in labels)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UsageError("labels given twice", given=twice, todo="give each label once")
    return labels


def normalise(name: str) -> str:
    """The name without case, spaces, ``_``, ``-`` and ``/``, for comparison only."""
    return re.sub(r"[\s_/-]+", "", name).lower()


def _check_join(
    rows: Sequence[dict[str, str]], class_of: Sequence[int], class_names: Sequence[str]
) -> None:
    wanted, given = set(range(len(class_names))), set(class_of)
    if wanted != given:
        raise DataError(
            "prompts do not cover the data set's classes",
            given=f"classidx {shorten(sorted(given))}",
            allowed=f"0 to {len(class_names) - 1}: {shorten(class_names)}",
        )
    for row, k in zip(rows, class_of, strict=True):
        name = row.get("classname")
        if name and normalise(name) != normalise(class_names[k]):
            theirs = [r.get("classname", "") for r in rows]
            raise DataError(
                f"classname of classidx {k} differs from the data set's",
                given=f"{name!r} in {shorten(theirs)}",
                allowed=f"{class_names[k]!r} in {shorten(class_names)}",
                todo="order the prompts as the data set orders its classes",
            )


def shorten(values: Sequence[object], most: int = 12) -> str:
    """The first values of a list, and how many there are."""
    shown = ", ".join(map(str, values[:most]))
    return shown + (f", … ({len(values)} in all)" if len(values) > most else "")
