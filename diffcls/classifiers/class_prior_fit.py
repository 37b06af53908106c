"""Fit of a class prior from the options of an evaluation: its images, its cache and its cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from diffcls.classifiers.base import Built
from diffcls.classifiers.cached_fit import CachedFit, scores_defined_by
from diffcls.classifiers.class_prior import (
    Fitted,
    PriorMethod,
    biased,
    combined,
    fit_bias,
    fit_combination,
)
from diffcls.classifiers.class_prior_options import LABELLED_SPLIT, UNLABELLED_SPLIT
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.fit_images import load_for_fit
from diffcls.classifiers.labelled_data import check_classes, is_quiet
from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.search_options import clip_revision
from diffcls.data.catalog import DatasetSpec
from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.data.subsets import choose, sample
from diffcls.data.transforms import load_image
from diffcls.metrics.class_prior import PRIOR_STRENGTH
from diffcls.support.cache import Arrays
from diffcls.support.errors import DataError, UsageError
from diffcls.support.invariants import instance
from diffcls.support.notices import warn
from diffcls.support.types import Float64
from diffcls.support.version import __version__

COMBINATION_IMAGES = 200
"""Validation images, a stratified sample, on which the exponents of a combination are fitted."""
KIND = "class-prior"


def with_class_prior(built: Built, options: ClassifierOptions, spec: DatasetSpec) -> Built:
    """The classifier with the prior that the options describe, fitted when it is needed.

    The fit is stored in the output folder under all that defines it. Test images are not read.

    Args:
        built: the classifier.
        options: options of the evaluation, with ``class_bias`` or ``combine``.
        spec: catalog entry of the data set, for its CLIP model.
    """
    method = instance(built.method, DiffusionMethod)
    if built.prompts.asked:
        raise UsageError(
            "--class-bias and --combine need classes that all images share",
            given="images with candidates of their own",
            todo="choose another data set",
        )
    if options.class_bias is not None:
        return _with_bias(built, method, options, options.class_bias)
    return _with_clip(built, method, options, spec)


def _with_bias(
    built: Built, method: DiffusionMethod, options: ClassifierOptions, count: int
) -> Built:
    whole = _images(built, options, UNLABELLED_SPLIT)
    if count > len(whole):
        raise UsageError(
            "--class-bias out of range",
            given=count,
            allowed=f"1 to {len(whole):,}, the images of split {whole.split}",
        )
    data, subset = sample(whole, count)
    rule = {"class_bias": [data.revision, data.split, subset], "strength": PRIOR_STRENGTH}

    def fit() -> Arrays:
        return fit_bias(method, data.items, is_quiet(options))

    def use(arrays: Arrays) -> Fitted:
        return biased(method, np.asarray(arrays["bias"], dtype=np.float64))

    return _fitted(built, options, rule, len(data), fit, use)


def _with_clip(
    built: Built, method: DiffusionMethod, options: ClassifierOptions, spec: DatasetSpec
) -> Built:
    whole = _images(built, options, LABELLED_SPLIT)
    data, subset = choose(whole, limit=min(COMBINATION_IMAGES, len(whole)))
    name = options.clip_model or spec.clip
    rule = {"combine": [name, clip_revision(name)], "fit": [data.revision, data.split, subset]}
    log_clip = clip_log_probabilities(name, str(method.denoiser.device), built.prompts)

    def fit() -> Arrays:
        return fit_combination(
            method, lambda item: log_clip(item.open), data.items, is_quiet(options)
        )

    def use(arrays: Arrays) -> Fitted:
        return combined(method, log_clip, float(arrays["own"]), float(arrays["other"]))

    return replace(_fitted(built, options, rule, len(data), fit, use), supervision="hybrid")


def clip_log_probabilities(
    name: str, device: str, prompts: PromptSet
) -> Callable[[Callable[[], Any]], Float64]:
    """A function that opens an image -> (K,) log-posterior of a CLIP model.

    Args:
        name: name of the CLIP model, see `diffcls.models.clip.load`.
        device: where it runs.
        prompts: the candidate classes.
    """
    import torch

    from diffcls.models import clip

    model = clip.load(name, device)
    classifier = model.classifier(prompts.prompts, prompts.class_of)

    def log_p(open_image: Callable[[], Any]) -> Float64:
        pixels = model.preprocess(load_image(open_image()))
        logits = model.logits(torch.stack([pixels]), classifier)[0]
        posterior = logits.double().log_softmax(dim=0).cpu().numpy()
        if not np.isfinite(posterior).all():
            raise DataError(f"the posterior of {name} is not finite")
        return np.asarray(posterior, dtype=np.float64)

    return log_p


def _images(built: Built, options: ClassifierOptions, split: str) -> Dataset:
    flag = "--class-bias" if split == UNLABELLED_SPLIT else "--combine"
    data: Dataset = load_for_fit(options, split, flag)
    check_classes(split, data.class_names, options.split, built.prompts.class_names)
    return data


def _fitted(
    built: Built,
    options: ClassifierOptions,
    rule: dict[str, Any],
    images: int,
    fit: Callable[[], Arrays],
    use: Callable[[Arrays], Fitted],
) -> Built:
    """The classifier with a prior whose fit is cached under all that defines it."""
    method = instance(built.method, DiffusionMethod)
    defined_by = {**rule, "version": __version__, **scores_defined_by(built, options)}
    cached = CachedFit(
        options.output_dir, KIND, defined_by, images * built.most_evaluations, method
    )

    def made() -> Arrays:
        arrays = fit()
        if not is_quiet(options):
            spent = int(arrays["evaluations"])
            warn(f"class prior fitted on {images:,} images by {spent:,} evaluations")
        return arrays

    return replace(
        built,
        method=PriorMethod(method, lambda: use(cached.arrays(made))),
        class_prior=json.dumps(rule, sort_keys=True, ensure_ascii=False),
        fitting=cached.fitting,
    )
