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
    evaluations_of_fit,
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
from diffcls.support.notices import warn
from diffcls.support.progress import Progress

KIND = "learned-screen"
FIT_VERSION = 2
"""Part of what defines a fit; increased whenever a change to the code changes it."""
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
    method = built.method
    assert isinstance(method, DiffusionMethod)
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
        "search": dataclasses.asdict(search),
        **errors_defined_by(built, options),
    }
    evaluations = evaluations_of_fit(parts, search, built.prompts.n_classes)
    cached = CachedFit(options.output_dir, KIND, defined_by, evaluations, method)

    def make() -> Arrays:
        quiet = is_quiet(options)
        with Progress(evaluations, "fitting the screen", "evaluations", quiet=quiet) as progress:
            measurement = ScreenMeasurement(method, progress.update)
            whole = Parts(*(readable(method, part) for part in vars(parts).values()))
            arrays = fit_all(method, measurement, search, whole, options.seed, other)
        return {**arrays, "model": np.array(json.dumps(_model_of(built)))}

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


def fit_all(
    method: DiffusionMethod,
    measurement: ScreenMeasurement,
    search: Learned,
    parts: Parts,
    seed: int,
    other: Arrays | None = None,
) -> Arrays:
    """All arrays of a fit: regression, belief and calibration.

    Args:
        method: the classifier.
        measurement: measures its errors.
        search: its search.
        parts: the unlabelled images.
        seed: of the random choices.
        other: arrays of a fit of other classes, whose regression is taken; None: a new one is made.
    """
    own = (method.prompts, method.candidate_conditioning)
    if other is None:
        components = class_components([own])
        arrays = fit_regression(measurement, search, parts.regression, components, seed)
        arrays |= _arrays_of_prompts(method.prompts)
    else:
        prompts = _prompts_of(other)
        cond = method.denoiser.encode_prompts(prompts.prompts)
        components = class_components([(prompts, cond), own])
        arrays = dict(other)
    predictor = ErrorPredictor(arrays, components)
    arrays |= fit_belief(measurement, search, parts.residual, predictor, seed)
    arrays |= {"components": components}
    arrays |= calibrate(method, measurement, search, parts.calibration, screen_fit(arrays))
    return {**arrays, "evaluations": np.asarray(measurement.evaluations)}


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
            allowed=f"OUTPUT_DIR/fits/{KIND}-*.npz of an earlier run",
        )
    try:
        arrays = read_arrays(Path(path), "--fit")
    except RecordError:  # whose advice, to delete the file, is for the cache
        arrays = {}
    arrays.pop("defined_by", None)
    if not {"axes", "prompts", "model"} <= set(arrays):
        raise UsageError(
            "--fit is not the whole fit of a learned screen",
            given=str(path),
            allowed=f"OUTPUT_DIR/fits/{KIND}-*.npz of an earlier run",
        )
    model = json.loads(str(arrays["model"]))
    if model != _model_of(built):
        raise UsageError(
            "--fit is that of another model",
            given=" ".join(model),
            allowed=" ".join(_model_of(built)),
        )
    return arrays
