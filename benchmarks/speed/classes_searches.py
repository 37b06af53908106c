"""Classifiers of the scaling benchmark's short runs, which measure time and memory.

A fit is a small one with a fixed caution, made before the measurement: neither the time of an
evaluation nor memory depends on how well it predicts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.learned_screen import fit_prediction
from diffcls.classifiers.screen_fit import Parts, screen_fit
from diffcls.classifiers.screen_measurement import ScreenMeasurement
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Denoiser
from diffcls.search import SEARCHES as KINDS
from diffcls.search.learned import Learned, ScreenFit
from diffcls.search.screening import ScreenedSearch
from diffcls.support.invariants import known

FIT_IMAGES, FIT_CLASSES = 24, 20
CAUTION = 3.0
"""About that of calibrated fits."""


@dataclass(frozen=True)
class Setup:
    """What a search is measured on.

    Args:
        denoiser: the model.
        data: the test images, and their classes.
        batch: batch size.
        warm_up: whether this is the run of one image before the measurement: a screen then keeps
            fewer candidates than there are classes, so that it runs at all.
        fit: fit of the search, if it has one; see `small_fit`.
    """

    denoiser: Denoiser
    data: Dataset
    batch: int
    warm_up: bool = False
    fit: ScreenFit | None = None


def classifier(search: str, setup: Setup) -> DiffusionMethod:
    """The classifier of a search with its default options.

    Args:
        search: value of ``--search``.
        setup: the images and the model.
    """
    if search == "learned" and setup.warm_up:
        search = "gradient"  # the same kinds of passes
    kind: Any = KINDS.load(search)
    options = {"candidates": 2} if setup.warm_up and issubclass(kind, ScreenedSearch) else {}
    method = method_of(kind(**options), setup)
    if search == "learned" and needs_fit(search, len(setup.data.class_names)):
        fit = known(setup.fit)
        method.use_screen(replace(kind().screen, fit=lambda: fit))
    return method


def needs_fit(search: str, classes: int) -> bool:
    """Whether a search is fitted: not if all classes race."""
    return search == "learned" and classes > Learned.candidates


def small_fit(setup: Setup, training: Dataset) -> ScreenFit:
    """A fit on a few images of the training split, with a fixed caution instead of a calibration.

    Args:
        setup: the model, the classes, and the batch size.
        training: the training split.
    """
    search = Learned(fit_classes=FIT_CLASSES)
    step = max(1, len(training) // FIT_IMAGES)
    items = tuple(training.items[::step][:FIT_IMAGES])
    measurement = ScreenMeasurement(method_of(search.race, setup))
    arrays = fit_prediction(measurement, search, Parts.of(items), seed=0)
    return screen_fit({**arrays, "caution": np.asarray(CAUTION)})


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
