"""Fidelity of generated images: FID, KID, IS, precision and recall against real images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.generation import samplers
from diffcls.generation.fidelity_metrics import Metric, compute
from diffcls.generation.fidelity_options import METRICS, MIN_IMAGES, FidelityOptions
from diffcls.generation.options import Interrupted
from diffcls.support.errors import UsageError
from diffcls.support.invariants import known
from diffcls.support.signatures import takes

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset
    from diffcls.models.denoiser import Denoiser
    from diffcls.models.feature_extractors import Extractor
    from diffcls.support.cache import Arrays
    from diffcls.support.workers.pool import Pool

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FidelityResult:
    """Metrics of generated images against real ones.

    Args:
        model: name of the model and its unusual settings, or ``folder:NAME``.
        dataset: name of the data set, or ``folder:NAME``.
        split: split of the data set; empty for a folder.
        extractor: feature extractor with the width of its features; values of different
            extractors cannot be compared.
        n, n_real: number of generated and of real images.
        metrics: one per metric, in the order of `METRICS`.
        guidance, steps: options of the sampler; None for a folder.
        training_images: that the model has seen, if known.
        status: ``complete``, or ``partial`` after an interruption.
    """

    model: str
    dataset: str
    split: str
    extractor: str
    n: int
    n_real: int
    metrics: tuple[Metric, ...] = ()
    guidance: float | None = None
    steps: int | None = None
    training_images: int | None = None
    status: str = "complete"

    def rows(self) -> list[dict[str, Any]]:
        """One row per metric, with the columns of ``fidelity.csv``."""
        different = self.n_real != self.n
        shared = {
            "model": self.model,
            "dataset": f"{self.dataset} ({self.n_real} images)" if different else self.dataset,
            "split": self.split,
            "extractor": self.extractor,
            "n": self.n,
            "guidance": self.guidance,
            "steps": self.steps,
            "training_images": self.training_images,
        }
        return [
            {**shared, "metric": m.name, "value": m.value, "stderr": m.stderr} for m in self.metrics
        ]


@takes(FidelityOptions)
def measure_fidelity(options: FidelityOptions) -> list[FidelityResult]:
    """Measure how close generated images are to real ones.

    FID, KID, IS, and precision and recall (see `diffcls.metrics.generative`) on the features of
    one extractor. Either side is a folder of images, or images of a data set and of a model.

    Args:
        options: the fields of `FidelityOptions`, as keyword arguments.

    Returns:
        One result per guidance weight; a single one for a folder or an unconditional model.

    Raises:
        UsageError, DataError, ModelError: for options that do not fit, or missing data.
        diffcls.generation.options.Interrupted: on Ctrl-C, with the partial result of one
            guidance weight.
    """
    return list(measurements(options))


def measurements(options: FidelityOptions) -> Iterator[FidelityResult]:
    """The results of `measure_fidelity`, each as soon as it is there."""
    if options.generated is not None:
        yield _of_folders(options)
        return
    data = options.data(options.split) if options.real is None else None
    from diffcls.generation.workers import pool_of

    workers = pool_of(options) if options.executor == "ray" else nullcontext()
    with options.opened() as denoiser, workers as pool:
        yield from _of_model(options, denoiser, data, pool)


def _of_folders(options: FidelityOptions) -> FidelityResult:
    from diffcls.data.load import load_dataset
    from diffcls.data.own_data import announce
    from diffcls.generation.classes import texts_of
    from diffcls.generation.image_features import of_folder, paths_in
    from diffcls.models.devices import resolve_device
    from diffcls.support.environment import set_threads

    set_threads(options.threads)
    generated = paths_in(options.generated or "", "--generated", options.count)
    _check_count(len(generated), "generated")
    if options.real is not None:
        paths_in(options.real, "--real")  # a missing folder is found before anything is loaded
    data = None
    if options.dataset is not None:
        data = load_dataset(
            options.dataset, options.split, options.root, streaming=options.streaming
        )
        announce(options.dataset, data)
    texts = texts_of(options.dataset or "", data) if data else ()
    extractor = _extractor(options, texts, options.dataset, resolve_device(options.device))
    real, name, split = _real(options, data, extractor, None)
    images = of_folder(generated, extractor, options.batch_size)
    shared = FidelityResult(
        f"folder:{Path(options.generated or '').resolve().name}",
        name,
        split,
        extractor.name,
        len(generated),
        len(real["features"]),
    )
    _warn(shared, extractor.width, options)
    return replace(shared, metrics=compute(_metrics(options, texts), real, images))


def _of_model(
    options: FidelityOptions, denoiser: Denoiser, data: Dataset | None, pool: Pool | None
) -> Iterator[FidelityResult]:
    from diffcls.data.load import load_dataset
    from diffcls.data.own_data import announce
    from diffcls.generation.classes import classes_of, dataset_of
    from diffcls.generation.image_features import of_model
    from diffcls.generation.sample import find_sampler
    from diffcls.generation.workers import FidelityTask, facts_of, tensors_of
    from diffcls.models.given import images_seen

    find_sampler(options.sampler, denoiser)
    samplers.path_of(denoiser.schedule, options.steps)
    dataset = dataset_of(denoiser, options.dataset)
    options = replace(options, dataset=dataset)
    if options.real is None and data is None:
        data = load_dataset(dataset, options.split, options.root, streaming=options.streaming)
    if data is not None:
        announce(dataset, data)
    classes = classes_of(denoiser, dataset, options.root, data, options.streaming)
    extractor = _extractor(options, classes.texts, dataset, str(denoiser.device))
    resizing = denoiser.interpolation
    real, name, split = _real(options, data, extractor, denoiser.image_size, resizing)
    count = len(real["features"])
    shared = FidelityResult(
        _model_name(options, denoiser),
        name,
        split,
        extractor.name,
        count,
        count,
        steps=options.steps,
        training_images=images_seen(options.model),
    )
    _warn(shared, extractor.width, options)
    names = _metrics(options, classes.texts)
    facts = facts_of(denoiser, classes)
    del facts["dtype"]  # of the device: workers may have another than the driver
    # an unconditional model has no prompt to be guided by
    for guidance in [1.0] if denoiser.labels == () else options.guidance:
        shared = replace(shared, guidance=guidance)
        try:
            task = FidelityTask(options, guidance, count, facts)
            generated = None if pool is None else tensors_of(pool, task)
            images = of_model(options, extractor, denoiser, classes, guidance, count, generated)
        except Interrupted as stop:
            n = len(stop.result["features"])
            if n < MIN_IMAGES:
                raise KeyboardInterrupt from None
            values = compute(names, real, stop.result)
            raise Interrupted(replace(shared, n=n, metrics=values, status="partial")) from None
        yield replace(shared, metrics=compute(names, real, images))


def _real(
    options: FidelityOptions,
    data: Dataset | None,
    extractor: Extractor,
    size: int | None,
    resizing: str = "bicubic",
) -> tuple[Arrays, str, str]:
    """Features of the real images, the name of where they come from, and the split."""
    from diffcls.generation.image_features import of_folder, of_split, paths_in

    if options.real is not None:
        paths = paths_in(options.real, "--real", options.count)
        _check_count(len(paths), "real")
        features = of_folder(paths, extractor, options.batch_size)
        return features, f"folder:{Path(options.real).resolve().name}", ""
    data = known(data)
    _check_count(len(data.items), "real")
    return of_split(options, data, extractor, size, resizing), data.name, options.split


def _check_count(count: int, kind: str) -> None:
    if count < MIN_IMAGES:
        what = f"too few {kind} images to compare"
        raise UsageError(what, count, f"{MIN_IMAGES} or more", "add images")


def _extractor(
    options: FidelityOptions, texts: Sequence[str], dataset: str | None, device: str
) -> Extractor:
    from diffcls.data import catalog
    from diffcls.models import feature_extractors

    clip = catalog.find(dataset).clip if dataset is not None else None
    name = options.extractor or feature_extractors.default(clip)
    return feature_extractors.load(name, texts, range(len(texts)), device)


def _metrics(options: FidelityOptions, texts: Sequence[str]) -> list[str]:
    """The requested metrics, in the order of `METRICS`."""
    from diffcls.models import feature_extractors

    requested = options.metrics
    has_classes = bool(texts) or options.extractor == feature_extractors.INCEPTION
    if not has_classes and requested and "IS" in requested:
        what = "--metrics IS needs an extractor with classes"
        raise UsageError(what, options.extractor, todo="add --dataset NAME")
    return [m for m in METRICS if (m in requested if requested else has_classes or m != "IS")]


def _model_name(options: FidelityOptions, denoiser: Denoiser) -> str:
    """The model, and those settings of its sampler that the table has no column for."""
    given = {
        options.sampler: options.sampler != samplers.DEFAULT,
        f"seed {options.seed}": options.seed != 0,
    }
    unusual = ", ".join(name for name, is_unusual in given.items() if is_unusual)
    return f"{denoiser.card.name} ({unusual})" if unusual else denoiser.card.name


def _warn(result: FidelityResult, width: int, options: FidelityOptions) -> None:
    from diffcls.metrics.generative import too_few

    warning = too_few(min(result.n, result.n_real), width)
    if warning and (options.metrics is None or "FID" in options.metrics):
        logger.warning(warning)
