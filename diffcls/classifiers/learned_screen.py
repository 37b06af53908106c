"""Learned screen of an evaluation: its unlabelled images, its cache and its cost."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from diffcls.classifiers.base import Built
from diffcls.classifiers.cached_fit import CachedFit, errors_defined_by
from diffcls.classifiers.class_components import class_components
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.labelled_data import is_quiet
from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.screen_calibration import calibrate
from diffcls.classifiers.screen_fit import (
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
from diffcls.support.cache import Arrays, read_arrays
from diffcls.support.errors import DataError, RecordError, UsageError
from diffcls.support.hashing import hash_file
from diffcls.support.invariants import instance
from diffcls.support.notices import warn
from diffcls.support.progress import Progress

KIND, PREDICTION = "learned-screen", "learned-prediction"
FIT_VERSION = 3
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
        UsageError, DataError: see `diffcls.classifiers.unlabelled_data.unlabelled_images`.
    """
    method = instance(built.method, DiffusionMethod)
    if built.prompts.n_classes <= search.candidates:  # all classes race
        return built
    other = None if options.fit is None else _stored_fit(options.fit, built)
    images = unlabelled_images(options, search.fit_images)
    if len(images.items) < MIN_IMAGES:
        raise DataError(
            f"too few unlabelled images in {images.name} for --search learned",
            given=len(images.items),
            allowed=f"{MIN_IMAGES} or more",
            todo="name a folder of more with --fit-folder, or choose --search gradient",
        )
    parts = Parts.of(images.items, regression=other is None)
    regression = images.source if other is None else hash_file(str(options.fit))
    defined_by = {
        "version": FIT_VERSION,
        "fit": [regression, images.source],
        "model": _model_of(built),
        **errors_defined_by(built, options),
    }
    settings = dataclasses.asdict(search)
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
                return {**arrays, "model": np.array(json.dumps(_model_of(built)))}

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
        search_options={**built.search_options, "fit": [regression, images.source]},
        setting=name if setting == "default" else f"{setting} {name}",
        fitting=cached.fitting,
    )


def fit_prediction(
    measurement: ScreenMeasurement,
    search: Learned,
    parts: Parts,
    seed: int,
    other: Arrays | None = None,
) -> Arrays:
    """The arrays of a fit before its calibration: regression and belief.

    Args:
        measurement: measures errors of the classifier.
        search: its search.
        parts: the unlabelled images.
        seed: of the random choices.
        other: arrays of a fit of other classes, whose regression is taken; None: a new one is made.
    """
    method = measurement.method
    own = (method.prompts, method.candidate_conditioning)
    if other is None:
        components = class_components([own])
        images = readable(method, parts.regression)
        arrays = fit_regression(measurement, search, images, components, seed)
        arrays |= _arrays_of_prompts(method.prompts)
    else:
        prompts = _prompts_of(other)
        cond = method.denoiser.encode_prompts(prompts.prompts)
        components = class_components([(prompts, cond), own])
        arrays = dict(other)
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


def _model_of(built: Built) -> list[str]:
    return [built.card.name, built.card.revision]


def _arrays_of_prompts(prompts: PromptSet) -> Arrays:
    return {
        "prompts": np.array(json.dumps([prompts.class_names, prompts.prompts, prompts.class_of]))
    }


def _prompts_of(arrays: Arrays) -> PromptSet:
    names, texts, class_of = json.loads(str(arrays["prompts"]))
    return PromptSet(tuple(names), tuple(texts), tuple(class_of))


def _stored_fit(path: Any, built: Built) -> Arrays:
    """The arrays of ``--fit``, which must be of the same model."""
    if not Path(path).is_file():
        raise UsageError(
            "--fit: file not found",
            given=str(path),
            allowed="OUTPUT_DIR/fits/learned-*.npz of an earlier run",
        )
    try:
        arrays = read_arrays(Path(path), "--fit")
    except RecordError:  # whose advice, to delete the file, is for the cache
        arrays = {}
    for name in ("defined_by", "caution", "survival"):  # of that fit's own classes
        arrays.pop(name, None)
    if not {"axes", "prompts", "model"} <= set(arrays):
        raise UsageError(
            "--fit is not the whole fit of a learned screen",
            given=str(path),
            allowed="OUTPUT_DIR/fits/learned-*.npz of an earlier run",
        )
    model = json.loads(str(arrays["model"]))
    if model != _model_of(built):
        raise UsageError(
            "--fit is that of another model",
            given=" ".join(model),
            allowed=" ".join(_model_of(built)),
        )
    return arrays
