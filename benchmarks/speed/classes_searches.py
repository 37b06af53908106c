"""Searches of the scaling benchmark: a row's name, and the classifier that it measures.

To add a search with a fit, add a function to `SEARCHES` that returns a `Fitted` with the name and
the cost of the fit. The function runs before the time and memory of images are measured, in the
same process, so a fit that is kept in the cache costs time only once. A row of a fit that was made
on other classes (carried over) is a function of its own: it loads the data set of these classes,
fits on them, and gives the fit to the method of ``setup.data``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Denoiser
from diffcls.search import SEARCHES as KINDS
from diffcls.search.screening import ScreenedSearch


@dataclass(frozen=True)
class Setup:
    """What a search is measured on.

    Args:
        denoiser: the model.
        data: the test images, and their classes.
        batch: batch size.
        warm_up: whether this is the run of one image before the measurement: a screen then keeps
            fewer candidates than there are classes, so that it runs at all.
    """

    denoiser: Denoiser
    data: Dataset
    batch: int
    warm_up: bool = False


@dataclass(frozen=True)
class Fitted:
    """A classifier, with the fit that its search needed.

    Args:
        method: the classifier.
        fit: name of the fit, as in the ``setting`` of the leaderboard; None without a fit.
        fit_evaluations: evaluations that the fit took in all.
    """

    method: DiffusionMethod
    fit: str | None = None
    fit_evaluations: int = 0


def without_fit(search: str, setup: Setup) -> Fitted:
    """The classifier of a search with its default options.

    Args:
        search: value of ``--search``.
        setup: the images and the model.
    """
    kind: Any = KINDS.load(search)
    options = {"candidates": 2} if setup.warm_up and issubclass(kind, ScreenedSearch) else {}
    return Fitted(method_of(kind(**options), setup))


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


SEARCHES: Mapping[str, Callable[[Setup], Fitted]] = {
    "racing": partial(without_fit, "racing"),
    "gradient": partial(without_fit, "gradient"),
}
"""Row of the benchmark -> a function that builds its classifier. Racing comes first: all others are
compared with it."""
OTHERS: Mapping[str, Callable[[Setup], Fitted]] = {"exhaustive": partial(without_fit, "exhaustive")}
"""Searches whose memory alone is measured."""
