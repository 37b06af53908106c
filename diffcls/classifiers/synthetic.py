"""Classifier trained on generated images, the published baseline "Synthetic SD Data".

No real image is used for training: early stopping is decided on a tenth of the generated images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers import labelled_data, model_options
from diffcls.classifiers.base import Built, MethodKind
from diffcls.classifiers.fitting import (
    FitCost,
    Fitting,
    seconds_per_evaluation,
    training_seconds,
)
from diffcls.classifiers.one_pass import BatchMethod, Pixels, Score
from diffcls.classifiers.options import MODEL_OPTIONS, PROMPT_OPTIONS, ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_pixels
from diffcls.support.cache import Arrays, fitted, is_fitted
from diffcls.support.errors import UsageError
from diffcls.support.progress import Progress

if TYPE_CHECKING:
    from diffcls.models.denoiser import Denoiser

GUIDANCE, STEPS = 2.0, 12
SIDE = 64
"""Maximum side of the classifier's images in pixels."""
MIN_CLASSES_FOR_FEWER_IMAGES = 90
"""Number of classes from which on fewer images are generated per class."""
DEFAULT_TRAINING_IMAGES = 500_000
"""Maximum training images, counting repeats, for data sets without a recipe."""


def check(options: ClassifierOptions, spec: DatasetSpec) -> None:
    """Raise UsageError for an unknown model."""
    from diffcls.models import given

    given.check(model_options.model_of(options, spec))


def build(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Built:
    """The classifier, trained on generated images; images and weights are cached.

    Raises:
        UsageError: for images with candidates of their own, or a class-conditional model.
        UsageError, ModelError: see `diffcls.models.given.load`.
    """
    if prompts.asked:
        raise UsageError(
            "--method synthetic needs classes that all images share",
            given=f"{spec.name}, whose images have candidates of their own",
        )
    from diffcls.training import supervised

    denoiser, device = model_options.load_denoiser(options, spec)
    if denoiser.labels is not None:
        raise UsageError(
            "--method synthetic needs a text-conditional model",
            given=denoiser.card.name,
            todo="choose a text-to-image model",
        )
    side = min(SIDE, denoiser.image_size)
    images_per_class = options.images_per_class or default_images_per_class(prompts.n_classes)
    scale = GUIDANCE if options.guidance is None else options.guidance
    # keys and file names are part of fingerprints and of the cache's hashes: they never change
    generated_by: dict[str, Any] = {
        "model": denoiser.card.revision,
        "drawn at": denoiser.image_size,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
        "prompts": list(prompts.prompts),
        "class_of": list(prompts.class_of),
        "images a class": images_per_class,
        "guidance": scale,
        "steps": STEPS,
        "seed": options.seed,
        "side": side,
    }
    shows_no_progress = labelled_data.is_quiet(options)
    recipe = labelled_data.recipe_of(spec)
    training = supervised.Supervised(images=recipe.images if recipe else DEFAULT_TRAINING_IMAGES)
    augmentation = labelled_data.augmentation_of(spec)
    trained_by = {**generated_by, **supervised.describe(training, augmentation)}

    def learn() -> Arrays:
        generated = fitted(
            options.output_dir,
            "drawn",
            generated_by,
            lambda: generate(
                denoiser, prompts, images_per_class, scale, side, options.seed, shows_no_progress
            ),
        )
        return _learn(
            generated, prompts.n_classes, training, augmentation, options.seed, shows_no_progress
        )

    def cost() -> FitCost:
        images = prompts.n_classes * images_per_class
        if is_fitted(options.output_dir, "drawn", generated_by):
            images = 0
        # classifier-free guidance takes two passes
        evaluations = images * STEPS * (1 if scale in (0.0, 1.0) else 2)
        seconds = evaluations * seconds_per_evaluation(denoiser) if evaluations else 0.0
        seconds += training_seconds(training, side, prompts.n_classes)
        return FitCost(evaluations, training.images, seconds)

    method = classifier_method(
        lambda: fitted(options.output_dir, "synthetic", trained_by, learn),
        prompts.n_classes,
        side,
        options,
    )
    defined_by = {k: v for k, v in generated_by.items() if k not in ("prompts", "class_of")}
    return Built(
        method=method,
        card=denoiser.card,
        prompts=prompts,
        search_options={**defined_by, **supervised.describe(training, augmentation)},
        img_size=side,
        dtype=str(denoiser.dtype).removeprefix("torch."),
        device=device,
        setting="default",
        fitting=Fitting(lambda: is_fitted(options.output_dir, "synthetic", trained_by), cost),
    )


def default_images_per_class(classes: int) -> int:
    """1,000 images per class; 200 for about a hundred classes or more."""
    return 1000 if classes < MIN_CLASSES_FOR_FEWER_IMAGES else 200


def generate(
    denoiser: Denoiser,
    prompts: PromptSet,
    per_class: int,
    scale: float,
    side: int,
    seed: int,
    quiet: bool = False,
) -> Arrays:
    """``images`` (K·per_class, side, side, 3) uint8 and ``labels``, cycling through the classes."""
    import torch
    import torch.nn.functional as F

    from diffcls.generation.sample import sample

    classes = prompts.n_classes
    count = classes * per_class
    rows = [prompts.rows_of(k) for k in range(classes)]
    # image i is of class i mod K and cycles through its prompts
    texts = [
        prompts.prompts[rows[i % classes][i // classes % len(rows[i % classes])]]
        for i in range(count)
    ]
    generated: list[NDArray[np.uint8]] = []
    with Progress(count, "generating", quiet=quiet) as progress:
        for batch in sample(denoiser, texts, range(count), seed=seed, scale=scale, steps=STEPS):
            images = batch.images
            if images.shape[-1] != side:
                images = F.interpolate(images, (side, side), mode="bicubic", antialias=True)
            pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            generated.append(pixels.permute(0, 2, 3, 1).numpy())
            progress.update(len(images))
    return {
        "images": np.concatenate(generated),
        "labels": np.arange(count, dtype=np.int64) % classes,
    }


def _learn(
    generated: Arrays,
    classes: int,
    training: Any,
    augmentation: Any,
    seed: int,
    quiet: bool = True,
) -> Arrays:
    import torch

    from diffcls.training.supervised import train_classifier

    images = torch.from_numpy(generated["images"]).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.from_numpy(generated["labels"])
    held_out = len(images) // 10 // classes * classes or classes  # complete cycles of the classes
    learned = train_classifier(
        images[held_out:],
        labels[held_out:],
        (images[:held_out], labels[:held_out]),
        classes,
        training,
        augmentation,
        seed,
        quiet,
    )
    return pack(learned)


def pack(learned: Any) -> Arrays:
    """A trained classifier as named arrays."""
    return {
        **{f"weights.{name}": value for name, value in learned.weights.items()},
        "validation_accuracy": np.asarray(learned.accuracy),
        "images_seen": np.asarray(learned.images),
    }


def classifier_method(
    fit: Callable[[], Arrays], classes: int, side: int, options: ClassifierOptions
) -> BatchMethod:
    """A single-pass classifier with stored weights; its scores are log-probabilities."""
    from diffcls.models.resnet import predict
    from diffcls.training.supervised import restore

    prefix = "weights."

    def read(item: Item) -> Pixels:
        return to_pixels(load_image(item.open()), side, options.interpolation or "bicubic")

    def prepare() -> Score:
        stored = fit().items()
        weights = {k.removeprefix(prefix): v for k, v in stored if k.startswith(prefix)}
        model = restore(weights, classes)
        return lambda pixels, _: predict(model, pixels).log_softmax(dim=1)

    return BatchMethod(read, prepare, batch_size=model_options.batch_size(options.batch_size))


SYNTHETIC = MethodKind(
    check,
    build,
    MODEL_OPTIONS | PROMPT_OPTIONS | {"interpolation", "guidance", "images_per_class", "concept"},
)
