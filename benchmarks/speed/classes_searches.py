"""Classifiers of the scaling benchmark's short runs, which measure time and memory.

The fit of a search is that of the long run before it: making it is not part of what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.screen_fit import screen_fit
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Denoiser
from diffcls.search import SEARCHES as KINDS
from diffcls.search.learned import ScreenFit
from diffcls.search.screening import ScreenedSearch
from diffcls.support.cache import read_arrays


@dataclass(frozen=True)
class Setup:
    """What a search is measured on.

    Args:
        denoiser: the model.
        data: the test images, and their classes.
        batch: batch size.
        warm_up: whether this is the run of one image before the measurement: a screen then keeps
            fewer candidates than there are classes, so that it runs at all.
        fit: file with the fit of the search, if it has one.
    """

    denoiser: Denoiser
    data: Dataset
    batch: int
    warm_up: bool = False
    fit: Path | None = None


def classifier(search: str, setup: Setup) -> DiffusionMethod:
    """The classifier of a search with its default options.

    Args:
        search: value of ``--search``.
        setup: the images and the model.
    """
    if search == "learned" and setup.fit is None:
        search = "gradient"  # up to ten classes all race; the warm-up has the same kinds of passes
    kind: Any = KINDS.load(search)
    options = {"candidates": 2} if setup.warm_up and issubclass(kind, ScreenedSearch) else {}
    method = method_of(kind(**options), setup)
    if search == "learned":
        method.use_screen(replace(kind().screen, fit=lambda: _stored(setup.fit)))
    return method


@cache
def _stored(fit: Path) -> ScreenFit:
    return screen_fit(read_arrays(fit, "fit"))


def method_of(search: Any, setup: Setup) -> DiffusionMethod:
    """The classifier of a search, with the data set's prompts and the model's allocation."""
    data = setup.data
    templates = catalog.find(data.name).templates
    return DiffusionMethod(
        setup.denoiser,
        PromptSet.from_templates(data.class_names, templates, data.prompt_names),
        search,
        batch_size=setup.batch,
        encode_batch=min(setup.batch, 16),
        allocation=setup.denoiser.card.allocation,
    )
