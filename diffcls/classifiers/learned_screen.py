"""Learned screen of an evaluation: its unlabelled images, its cache and its cost."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np

from diffcls.classifiers.base import Built
from diffcls.classifiers.cached_fit import CachedFit, errors_defined_by
from diffcls.classifiers.carried_fit import CarriedFit, carried_fit, regression_settings
from diffcls.classifiers.class_components import class_components
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.labelled_data import is_quiet
from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.screen_calibration import calibrate
from diffcls.classifiers.screen_fit import (
    MAX_OF_CARRIED_FIT,
    Parts,
    evaluations_of_calibration,
    evaluations_of_prediction,
    fit_belief,
    fit_regression,
    screen_fit,
)
from diffcls.classifiers.screen_measurement import ScreenMeasurement
from diffcls.classifiers.unlabelled_data import unlabelled_images
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.search.error_prediction import ErrorPredictor
from diffcls.search.learned import Learned, ScreenFit
from diffcls.support.cache import Arrays
from diffcls.support.errors import DataError, UsageError
from diffcls.support.invariants import instance
from diffcls.support.notices import warn
from diffcls.support.progress import Progress

KIND, PREDICTION = "learned-screen", "learned-prediction"
FIT_VERSION = 4
"""Part of what defines a fit; increased whenever a change to the code changes it."""
PREDICTION_SETTINGS = ("draws", "fit_images", "fit_classes")
"""Options of the search that regression and belief depend on; another `confidence` or `looks` needs
no more than another calibration."""
MIN_IMAGES = 50
"""Unlabelled images without which nothing can be fitted and calibrated."""


def with_learned_screen(built: Built, options: ClassifierOptions, search: Learned) -> Built:
    """The classifier with the learned screen, which is fitted before the first image.

    The fit is stored in the output folder under all that defines it.

    Args:
        built: the classifier.
        options: options of the evaluation.
        search: its search.

    Raises:
        UsageError, DataError: see `diffcls.classifiers.unlabelled_data.unlabelled_images` and
            `diffcls.classifiers.carried_fit.carried_fit`.
    """
    method = instance(built.method, DiffusionMethod)
    settings = dataclasses.asdict(search)
    about = {
        "version": FIT_VERSION,
        "model": [built.card.name, built.card.revision],
        **errors_defined_by(built, options),
    }
    made_with = regression_settings({**about, "search": settings})
    other = None if options.fit is None else carried_fit(str(options.fit), made_with)
    if built.prompts.n_classes <= search.candidates:  # all classes race
        _check_unused(options, built.prompts.n_classes, search)
        return built
    count = search.fit_images if other is None else min(search.fit_images, MAX_OF_CARRIED_FIT)
    images = unlabelled_images(options, count, other.images if other else frozenset())
    if len(images.items) < MIN_IMAGES:
        left_out = "" if other is None else ", without those of the regression of --fit"
        raise DataError(
            f"too few unlabelled images in {images.name} for --search learned{left_out}",
            given=len(images.items),
            allowed=f"{MIN_IMAGES} or more",
            todo="name a folder of more with --fit-folder, or choose --search gradient",
        )
    parts = Parts.without_regression(images.items) if other else Parts.of(images.items)
    regression = images.source if other is None else other.source
    fitted_on = sorted(other.images if other else images.keys[: len(parts.regression)])
    defined_by = {**about, "fit": [regression, images.source]}
    classes, folder = built.prompts.n_classes, options.output_dir
    prediction = CachedFit(
        folder,
        PREDICTION,
        {**defined_by, "search": {name: settings[name] for name in PREDICTION_SETTINGS}},
        evaluations_of_prediction(parts, search, classes),
        method,
    )
    evaluations = evaluations_of_calibration(parts, search, classes)
    if not prediction.fitting.is_done():
        evaluations += prediction.evaluations
    # what decides the winners of the calibration's races, beside the errors
    settings |= {
        "allowed_loss": search.allowed_loss,
        "winner": [options.vote, options.aggregate],
    }
    cached = CachedFit(folder, KIND, {**defined_by, "search": settings}, evaluations, method)

    def make() -> Arrays:
        quiet = is_quiet(options)
        with Progress(evaluations, "fitting the screen", "evaluations", quiet=quiet) as progress:

            def predict() -> Arrays:
                measurement = ScreenMeasurement(method, progress.update)
                arrays = fit_prediction(measurement, search, parts, options.seed, other)
                return {**arrays, "fitted_on": np.array(json.dumps(fitted_on))}

            arrays = prediction.arrays(predict)
            measurement = ScreenMeasurement(method, progress.update)
            return calibrated(measurement, search, parts.calibration, arrays)

    @functools.cache
    def fit() -> ScreenFit:
        arrays = cached.arrays(make)
        if not is_quiet(options):
            warn(promise(arrays, search))
        return screen_fit(arrays)

    method.use_screen(dataclasses.replace(search.screen, fit=fit), fit)
    setting = options.setting()
    name = f"fit={images.name if other is None else regression}"
    return dataclasses.replace(
        built,
        search_options={**built.search_options, "fit": [FIT_VERSION, regression, images.source]},
        setting=name if setting == "default" else f"{setting} {name}",
        fitting=cached.fitting,
    )


def _check_unused(options: ClassifierOptions, classes: int, search: Learned) -> None:
    """Raise UsageError for a file or folder of a fit where nothing is fitted."""
    for flag, value in (("--fit", options.fit), ("--fit-folder", options.fit_folder)):
        if value is not None:
            raise UsageError(
                f"{flag} is of no use: all {classes} classes race, so that none is screened out",
                given=f"--candidates {search.candidates}",
                allowed=f"fewer candidates than classes, or no {flag}",
            )


def fit_prediction(
    measurement: ScreenMeasurement,
    search: Learned,
    parts: Parts,
    seed: int,
    other: CarriedFit | None = None,
) -> Arrays:
    """The arrays of a fit before its calibration: regression and belief.

    Args:
        measurement: measures errors of the classifier.
        search: its search.
        parts: the unlabelled images.
        seed: of the random choices.
        other: regression fitted on other classes, which is taken; None: a new one is made.
    """
    method = measurement.method
    own = (method.prompts, method.candidate_conditioning)
    if other is None:
        components = class_components([own])
        images = readable(method, parts.regression)
        arrays = fit_regression(measurement, search, images, components, seed)
        arrays |= _arrays_of_prompts(method.prompts)
    else:
        cond = method.denoiser.encode_prompts(other.prompts.prompts)
        components = class_components([(other.prompts, cond), own])
        arrays = dict(other.arrays)
    predictor = ErrorPredictor(arrays, components)
    images = readable(method, parts.residual)
    arrays |= fit_belief(measurement, search, images, predictor, seed)
    return {**arrays, "components": components, "evaluations": np.asarray(measurement.evaluations)}


def calibrated(
    measurement: ScreenMeasurement, search: Learned, items: tuple[Item, ...], arrays: Arrays
) -> Arrays:
    """All arrays of a fit: those of `fit_prediction`, and the calibration.

    Args:
        measurement: measures errors of the classifier.
        search: its search.
        items: the images.
        arrays: of `fit_prediction`.
    """
    images = readable(measurement.method, items)
    arrays = arrays | calibrate(measurement, search, images, screen_fit(arrays))
    spent = int(arrays["evaluations"]) + measurement.evaluations
    return {**arrays, "evaluations": np.asarray(spent)}


def readable(method: DiffusionMethod, items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The images that can be read; a warning counts the others.

    Raises:
        DataError: if none can be.
    """
    whole, reason = [], ""
    for item in items:
        try:
            method.pixels(item.open())
            whole.append(item)
        except (DataError, OSError, ValueError) as error:
            reason = f"{error}"
    if len(whole) < len(items):
        warn(f"{len(items) - len(whole)} images of the fit cannot be read: {reason}")
    if items and not whole:
        raise DataError("no image of the fit can be read", given=reason, allowed="image files")
    return tuple(whole)


def promise(arrays: Arrays, search: Learned) -> str:
    """What the calibration promises, and what the fit took, in one sentence."""
    survival, wanted = float(arrays["survival"]), 1 - search.allowed_loss
    text = (
        f"the screen was fitted by {int(arrays['evaluations']):,} evaluations; racing's winner "
        f"survives it with a probability of {survival:.1%} or more "
        f"({int(arrays['calibration_images'])} calibration images)"
    )
    if survival < wanted:
        text += f", less than the {wanted:.1%} of --confidence {search.confidence:g}"
    return text


def _arrays_of_prompts(prompts: PromptSet) -> Arrays:
    return {
        "prompts": np.array(json.dumps([prompts.class_names, prompts.prompts, prompts.class_of]))
    }
