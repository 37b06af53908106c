"""Prompts of the classes: from templates, from a CSV file, or candidate labels of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data import catalog
from diffcls.data.class_names import check_own_names
from diffcls.data.class_tables import class_indices
from diffcls.data.csv_tables import read_csv
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset

AGGREGATES = ("classes", "prompts", "rotate")
"""Treatment of several prompts per class: average their errors, let each prompt compete, or
evaluate one of them per draw, the same template for all classes."""


@dataclass(frozen=True)
class PromptSet:
    """K classes and their P >= K prompts.

    Args:
        class_names: (K,) names, K >= 2; built-in data sets may repeat a name (ImageNet does).
        prompts: (P,) texts, none empty.
        class_of: (P,) class index of each prompt; every class has at least one.
        asked: number of candidate classes per image, for data sets whose images each have their
            own candidates; 0 if every image is classified among all classes.
        own: whether a person wrote the names or prompts, rather than a built-in data set; see
            `diffcls.data.distinct_prompts`.
        filled: templates that the prompts were made from; empty for prompts of a file.

    Raises:
        UsageError: if lengths differ, a class has no prompt, or there is only one class.
    """

    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    class_of: tuple[int, ...]
    asked: int = 0
    own: bool = True
    filled: tuple[str, ...] = field(default=(), compare=False)

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
        own: bool = True,
    ) -> PromptSet:
        """Prompts from every template filled with every class name.

        Args:
            class_names: (K,) names; those of a user must be unique (see `check_labels`).
            templates: one or more texts with one ``{}``.
            fillings: (K,) texts that replace ``{}``; empty for the class names.
            asked, own: as in `PromptSet`.

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
            own,
            tuple(templates),
        )

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        class_names: Sequence[str],
        synonyms: Mapping[str, str] | None = None,
    ) -> PromptSet:
        """Prompts from a CSV with columns ``prompt``, ``classidx`` and, optional, ``classname``.

        Rows are joined to the data set by ``classidx``. A ``classname`` that differs from the data
        set's (ignoring case, ``_``, ``-`` and ``/``) is an error, so that a different class order
        is noticed.

        Args:
            path: the file.
            class_names: (K,) names of the data set.
            synonyms: other spellings of class names -> the data set's.

        Raises:
            DataError: for a file that is missing, malformed, or does not match the classes.
        """
        table = read_csv(Path(path), "--prompts", ("prompt", "classidx"), ("classname",))
        class_of = class_indices(table, class_names, "--prompts", synonyms)
        prompts = tuple(row.text("prompt") for row in table.rows)
        return cls(tuple(class_names), prompts, class_of)

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

    def rotated(self, errors: NDArray[np.float32], turn: NDArray[np.int64]) -> NDArray[np.float32]:
        """(K, N) errors of classes from (P, N) errors of prompts: one prompt of each per draw.

        Args:
            errors: errors of the prompts, NaN where not evaluated.
            turn: (N,) which of its prompts each class has on a draw.
        """
        rows = np.array(self._rows)[:, turn]  # (K, N)
        return errors[rows, np.arange(errors.shape[1])]

    @cached_property
    def templates(self) -> int:
        """Number of prompts of each class.

        Raises:
            UsageError: if classes differ in it.
        """
        counts = {len(rows) for rows in self._rows}
        if len(counts) > 1:
            raise UsageError(
                "--aggregate rotate needs as many prompts for each class, the same templates",
                given=f"{min(counts)} to {max(counts)} prompts a class",
                todo="choose --aggregate classes",
            )
        return counts.pop()

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
        UsageError: for fewer than two labels, anything but texts, or as in `check_own_names`.
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
    check_own_names(labels, "labels")
    return labels


def benchmark_prompts(benchmark: str, data: Dataset, candidates: int = 0) -> PromptSet:
    """Prompts of a data set from the templates of a benchmark; captions are prompts as they are.

    Args:
        benchmark: name of the benchmark.
        data: its classes.
        candidates: number of candidates per image; 0: all classes.
    """
    templates = data.templates_or(catalog.find(benchmark).templates)
    return PromptSet.from_templates(
        data.class_names, templates, data.prompt_names, candidates, own=False
    )
