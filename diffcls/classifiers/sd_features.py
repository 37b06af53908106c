"""Linear probe on the diffusion model's features, the published baseline "SD Features".

Logistic regression, trained on the labels of the training split, so not zero-shot. Block, timestep
and pooling are chosen on validation images, the regularisation by cross-validation.
"""

from __future__ import annotations

from copy import copy as shallow_copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers import labelled_data, linear_probe, model_options
from diffcls.classifiers.base import Built, MethodKind
from diffcls.classifiers.fitting import Fitting, evaluations_cost
from diffcls.classifiers.linear_probe import (
    SELECTION_STRENGTH,
    Floats,
    arrays_of,
    built,
    choose_strength,
    fit_probe,
    probe_of,
    scorer,
    stack,
    stack_labels,
)
from diffcls.classifiers.one_pass import BatchMethod, Pixels, Score
from diffcls.classifiers.options import MODEL_OPTIONS, ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.dataset import Dataset, Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_pixels
from diffcls.support.cache import Arrays, fitted, is_fitted
from diffcls.support.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.models.unet_features import FeatureReader

TIMES = (0.02, 0.08, 0.2, 0.4)
"""Candidate timesteps, as fractions of the schedule."""
GRIDS = (1, 2)
"""Candidate poolings, see `diffcls.models.unet_features.FeatureReader.read`."""
MAX_SELECTION_IMAGES = 2000
"""Training images for the choice of block and timestep; five times as many for that of C, see
`diffcls.classifiers.linear_probe.choose_strength`."""
COPIES_PER_IMAGE = 2
"""Of each training image: the original, and one augmented as for the diffusion model."""


@dataclass(frozen=True)
class FeatureLocation:
    """Where in the network the features of the linear probe are read: block, timestep, pooling.

    Args:
        block: name of the block of the network.
        index: index of the timestep in the noise schedule.
        grid: cells per side of the grid that features are averaged over.
    """

    block: str
    index: int
    grid: int


def check(options: ClassifierOptions, spec: DatasetSpec) -> None:
    """Raise UsageError for an unknown model, or a data set without labelled images."""
    from diffcls.models import given

    labelled_data.check(options, spec)
    given.check(model_options.model_of(options, spec))


def build(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Built:
    """The linear probe, fitted or read from the cache.

    Raises:
        UsageError, ModelError, DataError: see `diffcls.models.given.load` and
            `diffcls.classifiers.labelled_data.load`.
    """
    from diffcls.models.unet_features import FeatureReader

    denoiser, device = model_options.load_denoiser(options, spec)
    reader = FeatureReader(denoiser, options.seed)
    train = labelled_data.load(options, "train", prompts.class_names)
    validation = labelled_data.load(options, "validation", prompts.class_names)
    defined_by = {
        "model": denoiser.card.revision,
        "img_size": denoiser.image_size,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
        "data": [train.revision, len(train), validation.revision, len(validation)],
        "seed": options.seed,
        "grid of choices": [
            TIMES,
            GRIDS,
            linear_probe.STRENGTHS,
            MAX_SELECTION_IMAGES,
            COPIES_PER_IMAGE,
        ],
    }

    def read(item: Item) -> Pixels:
        return to_pixels(
            load_image(item.open()), denoiser.image_size, options.interpolation or "bicubic"
        )

    def prepare() -> Score:
        fit = fitted(
            options.output_dir,
            "sd-features",
            defined_by,
            lambda: _fit(reader, spec, train, validation, options),
        )
        return _scorer(reader, fit)

    return built(
        BatchMethod(
            read,
            prepare,
            evaluations=1,
            batch_size=model_options.batch_size(options.batch_size),
            single=denoiser.float32 if str(denoiser.dtype) != "torch.float32" else None,
        ),
        denoiser.card,
        prompts,
        defined_by,
        denoiser.image_size,
        denoiser.dtype,
        device,
        Fitting(
            lambda: is_fitted(options.output_dir, "sd-features", defined_by),
            lambda: evaluations_cost(denoiser, _evaluations(len(train), len(validation))),
        ),
    )


def _scorer(reader: FeatureReader, fit: Arrays) -> Score:
    """The scoring function of a stored probe."""
    location = FeatureLocation(str(fit["block"]), int(fit["index"]), int(fit["grid"]))
    return scorer(probe_of(fit), lambda pixels: _features(reader, pixels, location))


def _evaluations(train: int, validation: int) -> int:
    """Forward passes of a fit on so many images; see `_fit`."""
    selection = len(TIMES) * len(GRIDS) * (min(MAX_SELECTION_IMAGES, train) + validation)
    return selection + min(5 * MAX_SELECTION_IMAGES, train) + COPIES_PER_IMAGE * train


def _fit(
    reader: FeatureReader,
    spec: DatasetSpec,
    train: Dataset,
    validation: Dataset,
    options: ClassifierOptions,
) -> Arrays:
    total, quiet = _evaluations(len(train), len(validation)), labelled_data.is_quiet(options)
    with Progress(total, "fitting sd-features", "evaluations", quiet=quiet) as progress:
        reader = shallow_copy(reader)  # scoring does not count
        reader.on_read = progress.update
        return _fit_probe(reader, spec, train, validation, options.seed)


def _fit_probe(
    reader: FeatureReader, spec: DatasetSpec, train: Dataset, validation: Dataset, seed: int
) -> Arrays:
    from diffcls.data.subsets import choose

    selection = choose(train, limit=min(MAX_SELECTION_IMAGES, len(train)))[0]
    location, accuracy = _choose_location(reader, selection, validation)
    larger = choose(train, limit=min(5 * MAX_SELECTION_IMAGES, len(train)))[0]
    features, labels = _read_all(reader, larger, location)
    strength = choose_strength(features, labels)
    features, labels = _read_all(reader, train, location, spec, seed)
    probe = fit_probe(features, labels, len(train.class_names), strength)
    return {
        **arrays_of(probe),
        **{name: np.asarray(value) for name, value in vars(location).items()},
        "strength": np.asarray(strength),
        "validation_accuracy": np.asarray(accuracy),
    }


def _choose_location(
    reader: FeatureReader, train: Dataset, validation: Dataset
) -> tuple[FeatureLocation, float]:
    """The location whose probe is most accurate on validation images, and that accuracy."""
    length = len(reader.denoiser.schedule)
    best: tuple[float, FeatureLocation] | None = None
    for time in TIMES:
        for grid in GRIDS:
            index = int(time * length)
            features, labels = _read_blocks(reader, train, index, grid)
            held_out, truth = _read_blocks(reader, validation, index, grid)
            for block in reader.blocks:
                probe = fit_probe(
                    features[block], labels, len(train.class_names), SELECTION_STRENGTH
                )
                correct = probe(held_out[block]).argmax(axis=1) == truth
                if best is None or correct.mean() > best[0]:
                    best = float(correct.mean()), FeatureLocation(block, index, grid)
    assert best is not None
    return best[1], best[0]


def _read_blocks(
    reader: FeatureReader, data: Dataset, index: int, grid: int
) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """Features of all blocks, name -> (N, D), and labels (N,)."""
    names = list(reader.blocks)
    parts: list[dict[str, Tensor]] = []
    labels: list[Tensor] = []
    for pixels, truth in labelled_data.batches(data, reader.denoiser.image_size):
        x0 = reader.denoiser.encode_images(pixels)
        parts.append(reader.read(x0, index, names, grid))
        labels.append(truth)
    return {name: stack([part[name] for part in parts]) for name in names}, stack_labels(labels)


def _read_all(
    reader: FeatureReader,
    data: Dataset,
    location: FeatureLocation,
    spec: DatasetSpec | None = None,
    seed: int = 0,
) -> tuple[Floats, NDArray[np.int64]]:
    """(N, D) features and (N,) labels; with `spec` also of an augmented copy of every image."""
    from diffcls.training.augmentation import augment
    from diffcls.training.loop import generator

    parts: list[Tensor] = []
    labels: list[Tensor] = []
    for copy in range(COPIES_PER_IMAGE if spec else 1):
        for number, (pixels, truth) in enumerate(
            labelled_data.batches(data, reader.denoiser.image_size)
        ):
            if copy and spec:
                rng = generator("features", seed, copy, number)
                pixels = augment(pixels, labelled_data.augmentation_of(spec), rng)
            parts.append(_features(reader, pixels, location))
            labels.append(truth)
    return stack(parts), stack_labels(labels)


def _features(reader: FeatureReader, pixels: Tensor, location: FeatureLocation) -> Tensor:
    x0 = reader.denoiser.encode_images(pixels)
    return reader.read(x0, location.index, [location.block], location.grid)[location.block]


SD_FEATURES = MethodKind(check, build, MODEL_OPTIONS | {"interpolation"})
