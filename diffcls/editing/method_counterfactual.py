"""Counterfactuals that an evaluation's classifier judges, with its prompts and settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diffcls.classifiers.base import Built, Method
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.wrapping import WrappingMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.editing.attention import check_network
from diffcls.editing.counterfactual import Counterfactual, counterfactual
from diffcls.editing.options import EditSettings
from diffcls.metrics.calibration import posterior
from diffcls.scoring.scoring import Scoring
from diffcls.search.screening import ScreenedSearch
from diffcls.support.errors import DataError
from diffcls.support.invariants import instance, known
from diffcls.support.types import Float64


def method_counterfactual(
    method: Method,
    item: Item,
    answer: int,
    label: int,
    settings: EditSettings,
    judged: Callable[[], object] = lambda: None,
) -> Counterfactual:
    """The smallest edit of an image after which a classifier says another class.

    Args:
        method: a diffusion classifier whose scores have a posterior.
        item: the image.
        answer, label: the present and the other class: indices among the classifier's classes, or
            the image's own candidates.
        settings: of the edits.
        judged: is called after each image on the way.

    Raises:
        DataError: for an image that cannot be read or scored.
        ModelError: see `diffcls.editing.edit.edit`.
    """
    inner, scale = inner_of(method), known(method.posterior_scale)
    check_network(inner.denoiser.network, inner.denoiser.card.name)
    prompts = inner.prompts
    texts = [prompts.prompts[prompts.rows_of(k)[0]] for k in range(prompts.n_classes)]
    names = list(prompts.class_names)
    if item.candidates:
        texts, names = ([one[k] for k in item.candidates] for one in (texts, names))

    def judge(pixels: Tensor) -> Float64:
        (result,) = method.classify([replace(item, open=lambda: to_image(pixels))])
        if result.error is not None:
            raise DataError(result.error, given=item.image_id)
        judged()
        return posterior(result.scores, scale)

    pixels = torch.from_numpy(inner.pixels(item.open()))
    return counterfactual(inner.denoiser, pixels, texts, names, answer, label, judge, settings)


def among(built: Built, options: ClassifierOptions, classes: Sequence[int]) -> Method:
    """An evaluation's classifier among some of its classes.

    Its search is without a screen there, whose shortlist a few classes do not need.

    Args:
        built: the classifier.
        options: options of the evaluation.
        classes: indices of the classes, two or more; all: the classifier itself.
    """
    if built.prompts.asked or len(classes) == built.prompts.n_classes:
        return built.method
    whole = inner_of(built.method)
    search = whole.search
    return DiffusionMethod(
        whole.denoiser,
        some_of(built.prompts, classes),
        search.race if isinstance(search, ScreenedSearch) else search,
        Scoring(built.loss, options.weighting),
        options.seed,
        whole.batch_size,
        noise_path=options.noise_path,
        interpolation=options.interpolation,
        aggregate=options.aggregate,
        vote=options.vote,
        allocation=built.allocation,
    )


def some_of(prompts: PromptSet, classes: Sequence[int]) -> PromptSet:
    """Some classes with their prompts."""
    rows = [(prompts.prompts[row], k) for k, c in enumerate(classes) for row in prompts.rows_of(c)]
    texts, class_of = zip(*rows, strict=True)
    names = tuple(prompts.class_names[c] for c in classes)
    return replace(prompts, class_names=names, prompts=texts, class_of=class_of)


def inner_of(method: Method) -> DiffusionMethod:
    """The diffusion classifier within a method."""
    return instance(
        method.method if isinstance(method, WrappingMethod) else method, DiffusionMethod
    )
