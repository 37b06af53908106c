"""Reference baselines: a supervised classifier, nearest class mean, and chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffcls.classifiers import labelled_data, model_options
from diffcls.classifiers.base import Built, MethodKind
from diffcls.classifiers.fitting import FitCost, Fitting, training_seconds
from diffcls.classifiers.one_pass import BatchMethod, Pixels, Score
from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.synthetic import DEFAULT_TRAINING_IMAGES, classifier_method, pack
from diffcls.data.catalog import DatasetSpec
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_pixels
from diffcls.models.denoiser import ModelCard
from diffcls.support.cache import Arrays, fitted, is_fitted
from diffcls.support.errors import unknown_name
from diffcls.support.seeding import key

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32
"""Side of the images in pixels."""
EMPTY_CLASS_MEAN = 1e3
"""Mean of a class without images, far from any pixel in [−1, 1], so it is never nearest."""

Fit = tuple[BatchMethod, dict[str, object], Fitting | None]
"""The method, everything that defines it, and what it fits beforehand."""


def kind_of(options: ClassifierOptions) -> str:
    """Name of the requested reference baseline, see `KINDS`; ``classifier`` by default."""
    model_is_reference = tuple(options.method) == ("reference",)
    return options.reference or (options.model if model_is_reference else None) or "classifier"


def check(options: ClassifierOptions, spec: DatasetSpec) -> None:
    """Raise UsageError for an unknown reference, or a data set without labelled images."""
    kind = kind_of(options)
    if kind not in KINDS:
        raise unknown_name("reference", kind, KINDS)
    if kind != "chance":
        labelled_data.check(options, spec)


def build(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Built:
    """A reference baseline, fitted or read from the cache.

    Raises:
        DataError: see `diffcls.classifiers.labelled_data.load`.
    """
    kind = kind_of(options)
    method, defined_by, fitting = KINDS[kind](options, spec, prompts)
    return Built(
        method=method,
        card=ModelCard(kind, "1"),
        prompts=prompts,
        search_options=defined_by,
        img_size=SIDE,
        supervision="zero-shot" if kind == "chance" else "labels",
        setting="default",
        fitting=fitting,
    )


def _classifier(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Fit:
    """The small classifier, trained on the real labelled images."""
    from diffcls.training import supervised

    train = labelled_data.load(options, "train", prompts.class_names)
    validation = labelled_data.load(options, "validation", prompts.class_names)
    recipe = labelled_data.recipe_of(spec)
    training = supervised.Supervised(images=recipe.images if recipe else DEFAULT_TRAINING_IMAGES)
    augmentation = labelled_data.augmentation_of(spec)
    defined_by: dict[str, object] = {
        "data": [train.revision, len(train), validation.revision, len(validation)],
        "seed": options.seed,
        **supervised.describe(training, augmentation),
    }

    is_quiet = labelled_data.is_quiet(options)

    def learn() -> Arrays:
        return pack(
            supervised.train_classifier(
                *labelled_data.tensors(train, SIDE, is_quiet),
                labelled_data.tensors(validation, SIDE, is_quiet),
                prompts.n_classes,
                training,
                augmentation,
                options.seed,
                is_quiet,
            )
        )

    def cost() -> FitCost:
        seconds = training_seconds(training, SIDE, prompts.n_classes)
        return FitCost(0, training.images, seconds)

    method = classifier_method(
        lambda: fitted(options.output_dir, "reference", defined_by, learn),
        prompts.n_classes,
        SIDE,
        options,
    )
    fitting = Fitting(lambda: is_fitted(options.output_dir, "reference", defined_by), cost)
    return method, defined_by, fitting


def _nearest_mean(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Fit:
    """Nearest class mean of the training images, in pixels."""
    import torch

    train = labelled_data.load(options, "train", prompts.class_names)

    def prepare() -> Score:
        images, labels = labelled_data.tensors(train, SIDE, labelled_data.is_quiet(options))
        means = torch.zeros(prompts.n_classes, images[0].numel(), dtype=torch.float64)
        means.index_add_(0, labels, images.flatten(1).double())
        counts = torch.bincount(labels, minlength=prompts.n_classes)[:, None]
        means = torch.where(counts > 0, means / counts, EMPTY_CLASS_MEAN)
        # −‖x − μ_k‖²
        return lambda pixels, _: -(torch.cdist(pixels.flatten(1).double(), means) ** 2)

    return _method(options, prepare), {"data": [train.revision, len(train)]}, None


def _chance(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Fit:
    """Random scores, keyed by seed and image."""
    import torch

    def score(_: Tensor, image_ids: Sequence[str]) -> Tensor:
        rows = [
            np.random.default_rng(key("chance", options.seed, image)).random(prompts.n_classes)
            for image in image_ids
        ]
        return torch.from_numpy(np.stack(rows))

    return _method(options, lambda: score), {}, None


def _method(options: ClassifierOptions, prepare: Callable[[], Score]) -> BatchMethod:
    def read(item: Item) -> Pixels:
        return to_pixels(load_image(item.open()), SIDE, options.interpolation or "bicubic")

    # squared distances and random numbers are not log-likelihoods
    return BatchMethod(read, prepare, None, batch_size=model_options.batch_size(options.batch_size))


KINDS: Mapping[str, Callable[[ClassifierOptions, DatasetSpec, PromptSet], Fit]] = {
    "classifier": _classifier,
    "nearest-mean": _nearest_mean,
    "chance": _chance,
}

REFERENCE = MethodKind(check, build, frozenset({"model", "reference", "interpolation"}))
