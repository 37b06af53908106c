"""Linear probe on the features of an image backbone of timm, such as DINOv2 (Oquab et al. 2023).

Logistic regression on frozen features, trained on the labels of the training split, so not
zero-shot; the regularisation is chosen by cross-validation. As in Radford et al. 2021, section 3.2,
images are preprocessed as for the backbone's own evaluation and not augmented.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.classifiers import labelled_data, linear_probe, model_options
from diffcls.classifiers.base import Built, MethodKind
from diffcls.classifiers.fitting import FitCost, Fitting, seconds_of
from diffcls.classifiers.one_pass import BatchMethod, Pixels, Score
from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.dataset import Dataset, Item
from diffcls.data.prompts import PromptSet
from diffcls.data.subsets import choose
from diffcls.data.transforms import load_image
from diffcls.models.backbone_files import EXAMPLE, check_name
from diffcls.support.cache import Arrays, fitted, is_fitted
from diffcls.support.errors import UsageError
from diffcls.support.progress import Progress

if TYPE_CHECKING:
    from diffcls.models.backbones import Backbone

MAX_SELECTION_IMAGES = 10_000
"""Training images for the choice of the regularisation strength C."""


def name_of(options: ClassifierOptions) -> str:
    """The backbone given.

    Raises:
        UsageError: if none is given.
    """
    model_is_backbone = tuple(options.method) == ("features",)
    name = options.backbone or (options.model if model_is_backbone else None)
    if not name:
        raise UsageError(
            "--method features needs a backbone",
            allowed="a name of timm, ARCHITECTURE/FILE.safetensors, a folder or hf-hub:OWNER/NAME",
            todo=f"choose one with --backbone, such as {EXAMPLE}",
        )
    return name


def check(options: ClassifierOptions, spec: DatasetSpec) -> None:
    """Raise UsageError for an unknown backbone, or a data set without labelled images."""
    labelled_data.check(options, spec, ("train",))
    check_name(name_of(options))


def build(options: ClassifierOptions, spec: DatasetSpec, prompts: PromptSet) -> Built:
    """The linear probe, fitted or read from the cache.

    Raises:
        UsageError, ModelError, DataError: see `diffcls.models.backbones.load` and
            `diffcls.classifiers.labelled_data.load`.
    """
    from diffcls.models import backbones, devices, precision

    device = devices.resolve_device(options.device)
    dtype = devices.resolve_dtype(options.dtype)
    backbone = backbones.load(name_of(options), device, dtype, options.img_size)
    train = labelled_data.load(options, "train", prompts.class_names)
    defined_by: dict[str, Any] = {
        "backbone": [backbone.card.name, backbone.card.revision],
        "images": dict(backbone.config),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "data": [train.revision, len(train)],
        "grid of choices": [linear_probe.STRENGTHS, linear_probe.FOLDS, MAX_SELECTION_IMAGES],
    }

    def read(item: Item) -> Pixels:
        pixels: Pixels = np.asarray(backbone.preprocess(load_image(item.open())), dtype=np.float32)
        return pixels

    def features(data: Dataset) -> tuple[linear_probe.Floats, Any]:
        parts, labels = [], []
        quiet = labelled_data.is_quiet(options)
        with Progress(len(data), "fitting features", "images", quiet=quiet) as progress:
            for pixels, truth in labelled_data.read_batches(data, read, method.batch_size):
                parts.append(backbone.features(pixels))
                labels.append(truth)
                progress.update(len(truth))
        return linear_probe.stack(parts), linear_probe.stack_labels(labels)

    def fit() -> Arrays:
        return _fit(*features(train), train)

    def prepare() -> Score:
        stored = fitted(options.output_dir, "features", defined_by, fit)
        return linear_probe.scorer(linear_probe.probe_of(stored), backbone.features)

    method = BatchMethod(
        read,
        prepare,
        batch_size=model_options.batch_size(options.batch_size),
        single=precision.repeated(backbone),
    )
    return linear_probe.built(
        method,
        backbone.card,
        prompts,
        defined_by,
        backbone.image_size,
        backbone.dtype,
        device,
        Fitting(
            lambda: is_fitted(options.output_dir, "features", defined_by),
            lambda: _cost(backbone, train, read, method.batch_size),
        ),
    )


def _cost(
    backbone: Backbone, train: Dataset, read: Callable[[Item], Pixels], batch_size: int
) -> FitCost:
    """The cost of a fit, from the first batch of its images."""
    pixels, truth = next(labelled_data.read_batches(train, read, batch_size))
    seconds = seconds_of(lambda: backbone.features(pixels)) / len(truth)
    return FitCost(0, 0, seconds * len(train), backbone_images=len(train))


def _fit(features: linear_probe.Floats, labels: Any, train: Dataset) -> Arrays:
    """The probe as it is stored, from features (N, D) and labels (N,) of the training images."""
    chosen = choose(train, limit=min(MAX_SELECTION_IMAGES, len(train)))[0]
    position = {item.image_id: row for row, item in enumerate(train.items)}
    rows = [position[item.image_id] for item in chosen.items]
    strength = linear_probe.choose_strength(features[rows], labels[rows])
    probe = linear_probe.fit_probe(features, labels, len(train.class_names), strength)
    return {**linear_probe.arrays_of(probe), "strength": np.asarray(strength)}


FEATURES = MethodKind(check, build, frozenset({"model", "backbone", "img_size", "dtype"}))
