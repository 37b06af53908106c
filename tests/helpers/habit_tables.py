"""The tables of docs/inputs.md, and a classifier that scores in no time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from diffcls import ZeroShotImageClassifier
from diffcls.models.gaussian import GaussianDenoiser

IS_COMPARED = tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 24)
"""Whether the installed transformers is the version that the page describes, or a later one."""
PAGE = Path(__file__).parents[2] / "docs" / "inputs.md"
LABELS = ["cat", "dog", "3"]
TEMPLATES = ["a photo of a {}.", "the {}!", "{}", "a photo of a {}"]


@dataclass(frozen=True)
class Row:
    transformers: bool
    diffcls: bool
    answer: str
    note: str


def tables() -> dict[str, dict[str, Row]]:
    """Section -> first cell -> row, of all tables of the page."""
    sections: dict[str, dict[str, Row]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
        for line in lines[2:]:
            name, old, new, *rest = [cell.strip() for cell in line]
            assert {old, new} <= {"yes", "no"}, line
            row = Row(old == "yes", new == "yes", rest[0] if len(rest) > 1 else "", rest[-1])
            assert row.diffcls or row.note, f"{name}: no, without a reason"
            section = sections.setdefault(part.splitlines()[0], {})
            assert name not in section, f"{name} twice"
            section[name] = row
    return sections


TABLES = tables()
ONE, SEVERAL, TEXTS, CALL, LOAD, ATTRIBUTES = TABLES
OTHER = "any other argument"


def names(section: str) -> set[str]:
    return {name.strip("`") for name in TABLES[section]}


def in_transformers(section: str) -> set[str]:
    return {name.strip("`") for name, row in TABLES[section].items() if row.transformers}


def gaussian_classifier() -> ZeroShotImageClassifier:
    """A classifier of `LABELS` in `TEMPLATES`, by an analytic model."""
    prompts = [t.replace("{}", label) for t in TEMPLATES for label in LABELS]
    means = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (len(prompts), 3, 8, 8)))
    denoiser = GaussianDenoiser(dict(zip(prompts, means, strict=True)))
    return ZeroShotImageClassifier(
        denoiser, search="exhaustive", search_options={"draws": 2}, batch_size=4
    )
