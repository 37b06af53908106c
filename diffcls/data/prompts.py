"""Prompts of the classes: from templates, from a CSV file, or candidate labels of the user."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data import catalog
from diffcls.support.errors import DataError, UsageError

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset

AGGREGATES = ("classes", "prompts")
"""Treatment of several prompts per class: average their errors, or let each prompt compete."""


@dataclass(frozen=True)
class PromptSet:
    """K classes and their P >= K prompts.

    Args:
        class_names: (K,) names, K >= 2; built-in data sets may repeat a name (ImageNet does).
        prompts: (P,) texts, none empty.
        class_of: (P,) class index of each prompt; every class has at least one.
        asked: number of candidate classes per image, for data sets whose images each have their
            own candidates; 0 if every image is classified among all classes.

    Raises:
        UsageError: if lengths differ, a class has no prompt, or there is only one class.
    """

    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    class_of: tuple[int, ...]
    asked: int = 0

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise UsageError(
                "too few classes",
                given=list(self.class_names),
                allowed="two labels or more",
                todo="add candidate labels",
            )
        if len(self.prompts) != len(self.class_of):
            raise UsageError(
                "prompts and their classes differ in number",
                given=(len(self.prompts), len(self.class_of)),
                allowed="one class index for every prompt",
            )
        for text in (*self.class_names, *self.prompts):
            if not isinstance(text, str) or not text.strip():
                raise UsageError("empty label or prompt", given=text, allowed="non-empty text")
        missing = set(range(len(self.class_names))) - set(self.class_of)
        if missing or len(set(self.class_of)) != len(self.class_names):
            names = [self.class_names[i] for i in sorted(missing)]
            raise UsageError(
                "classes without a prompt, or prompts without a class",
                given=names,
                allowed="at least one prompt for every class",
            )

    @classmethod
    def from_templates(
        cls,
        class_names: Sequence[str],
        templates: Sequence[str],
        fillings: Sequence[str] = (),
        asked: int = 0,
    ) -> PromptSet:
        """Prompts from every template filled with every class name.

        Args:
            class_names: (K,) names; those of a user must be unique (see `check_labels`).
            templates: one or more texts with one ``{}``.
            fillings: (K,) texts that replace ``{}``; empty for the class names.
            asked: as in `PromptSet`.

        Raises:
            UsageError: for a template without exactly one ``{}``.
        """
        if not templates:
            raise UsageError("no template", allowed='one or more texts such as "a photo of a {}."')
        for template in templates:
            if template.count("{}") != 1 or {"{", "}"} & set(template.replace("{}", "")):
                raise UsageError(
                    "template does not contain exactly one {} for the class name",
                    given=template,
                    allowed='a text with one {} and no other brace, as "a photo of a {}."',
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

        Rows are joined to the data set by ``classidx``. A ``classname`` that differs from the data
        set's (ignoring case, ``_``, ``-`` and ``/``) is an error, so that a different class order
        is noticed.

        Raises:
            DataError: for a file that is missing, lacks a column, or does not match the classes.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError("--prompts: file not found", given=str(path), todo="check the path")
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                rows = list(reader)
                columns = reader.fieldnames or []
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"--prompts: cannot read file ({error})", given=str(path), allowed="a CSV in UTF-8"
            ) from None
        if "prompt" not in columns or "classidx" not in columns:
            raise DataError(
                "--prompts: file lacks a column",
                given=list(columns),
                allowed="prompt, classidx and, optional, classname",
            )
        try:
            class_of = tuple(int(row["classidx"]) for row in rows)
        except (TypeError, ValueError):
            raise DataError(
                "--prompts: classidx is not a whole number",
                given=str(path),
                allowed="class indices 0, 1, …",
            ) from None
        _check_join(rows, class_of, class_names)
        return cls(tuple(class_names), tuple(row["prompt"] for row in rows), class_of)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def average(self, errors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K, N) errors of classes from (P, N) errors of prompts: the mean over a class's prompts.

        NaN where any prompt of the class was not evaluated.
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
        rows: list[list[int]] = [[] for _ in self.class_names]
        for row, k in enumerate(self.class_of):
            rows[k].append(row)
        return tuple(map(tuple, rows))


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The user's candidate labels: at least two, all different.

    Raises:
        UsageError: for fewer than two labels, a duplicate, or anything but texts.
    """
    if isinstance(labels, str):
        raise UsageError(
            "candidate labels are a single text", given=labels, allowed="a list of texts"
        )
    labels = tuple(labels)
    for label in labels:
        if not isinstance(label, str):
            raise UsageError(
                "candidate label is not a text", given=label, allowed="a list of texts"
            )
    if len(labels) < 2:
        raise UsageError(
            "too few candidate labels", given=list(labels), allowed="two labels or more"
        )
    names = Counter(" ".join(label.split()) for label in labels)
    duplicates = [name for name, count in names.items() if count > 1]
    if duplicates:
        raise UsageError("duplicate labels", given=duplicates, todo="give each label once")
    return labels


def normalise(name: str) -> str:
    """The name without case, spaces, ``_``, ``-`` and ``/``, for comparison only."""
    return re.sub(r"[\s_/-]+", "", name).lower()


def _check_join(
    rows: Sequence[dict[str, str]], class_of: Sequence[int], class_names: Sequence[str]
) -> None:
    expected, given = set(range(len(class_names))), set(class_of)
    if expected != given:
        raise DataError(
            "--prompts: file does not cover the data set's classes",
            given=f"classidx {shorten(sorted(given))}",
            allowed=f"0 to {len(class_names) - 1}: {shorten(class_names)}",
        )
    for row, k in zip(rows, class_of, strict=True):
        name = row.get("classname")
        if name and normalise(name) != normalise(class_names[k]):
            file_names = [r.get("classname", "") for r in rows]
            raise DataError(
                f"--prompts: classname of classidx {k} differs from the data set's",
                given=f"{name!r} in {shorten(file_names)}",
                allowed=f"{class_names[k]!r} in {shorten(class_names)}",
                todo="give the prompts in the data set's order of classes",
            )


def shorten(values: Sequence[object], limit: int = 12) -> str:
    """The first values of a list as text, with the number of all of them if some are left out."""
    shown = ", ".join(map(str, values[:limit]))
    return shown + (f", … ({len(values)} in all)" if len(values) > limit else "")


def benchmark_prompts(benchmark: str, data: Dataset, candidates: int = 0) -> PromptSet:
    """Prompts of a data set from the templates of a benchmark; captions are prompts as they are.

    Args:
        benchmark: name of the benchmark.
        data: its classes.
        candidates: number of candidates per image; 0: all classes.
    """
    templates = ("{}",) if data.sentences else catalog.find(benchmark).templates
    return PromptSet.from_templates(data.class_names, templates, data.prompt_names, candidates)
