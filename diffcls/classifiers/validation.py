"""Zero-shot validation of a denoiser while it is trained, as a callback for training loops."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Dataset, Item
from diffcls.data.left_out import classes_without
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet, benchmark_prompts
from diffcls.data.subsets import choose, stratified_order
from diffcls.metrics.classification import top_k_accuracy
from diffcls.models.denoiser import Denoiser
from diffcls.scoring.class_scores import ClassScores
from diffcls.search.base import Search
from diffcls.search.racing import Racing
from diffcls.training.validation import CURVE_DRAWS, CURVE_IMAGES, Validation, Validators

logger = logging.getLogger(__name__)

MAX_TEST_IMAGES = 500
"""Test images of the finished model's summary; the evaluate command scores all of them."""
FIRST_IMAGES = 4
"""Images that are scored whatever the time limit; their time tells how many more fit into it."""
SHARE_OF_REST = 0.8
"""Share of the remaining time that the next images are to take."""


@dataclass(frozen=True)
class ZeroShotValidator:
    """Callback that classifies images of a benchmark with a denoiser, zero-shot.

    Args:
        benchmark: name of the data set; its own prompts are used.
        search: allocation of (class, draw) evaluations.
        limits: maximum number of images by split, a stratified sample; other splits are used
            whole.
        data_root: folder of local data.
        seed: seed of the noise.
        without: names of classes that are left out: neither images nor candidates.
    """

    benchmark: str
    search: Search = field(default_factory=Racing)
    limits: Mapping[str, int] = field(default_factory=dict)
    data_root: str | None = None
    seed: int = 0
    without: tuple[str, ...] = ()

    def __call__(self, denoiser: Denoiser, split: str) -> Validation:
        """Scores, labels and accuracy on a split, with the timestep allocation of the card.

        Raises:
            UsageError, DataError: see `diffcls.data.load.load_dataset`.
        """
        data, prompts = benchmark_sample(
            self.benchmark, split, self.limits.get(split), self.data_root, self.without
        )
        return validate(denoiser, data, prompts, self.search, self.seed)


def benchmark_sample(
    benchmark: str,
    split: str,
    limit: int | None = None,
    data_root: str | None = None,
    without: Sequence[str] = (),
) -> tuple[Dataset, PromptSet]:
    """A fixed sample of a data set, the same at every call, and the data set's own prompts.

    Args:
        benchmark: name of the data set.
        split: name of the split.
        limit: size of the stratified sample; None: all images.
        data_root: folder of local data.
        without: names of classes that are left out.

    Raises:
        UsageError, DataError: see `diffcls.data.load.load_dataset` and
            `diffcls.data.left_out.classes_without`.
    """
    whole = load_dataset(benchmark, split, data_root)
    data, _ = choose(classes_without(whole, without), limit)
    return data, benchmark_prompts(benchmark, data, len(data.items[0].candidates))


def validate(
    denoiser: Denoiser,
    data: Dataset,
    prompts: PromptSet,
    search: Search,
    seed: int = 0,
    batch_size: int = 64,
    time_limit: float | None = None,
) -> Validation:
    """Classify images with a denoiser, zero-shot, within a time limit if one is given.

    Args:
        denoiser: the model; the timestep allocation is that of its card.
        data: the images.
        prompts: the candidate classes.
        search: allocation of (class, draw) evaluations.
        seed: seed of the noise.
        batch_size: rows of every forward pass.
        time_limit: seconds after which no further image is begun. The images scored are then the
            start of a fixed stratified order, so that they are a stratified sample, too, and none
            is left out because it took long. The first `FIRST_IMAGES` are always scored.

    Returns:
        The result over the images that were scored; `Validation.asked` counts all.
    """
    began = time.monotonic()
    classifier = DiffusionMethod(
        denoiser,
        prompts,
        search,
        seed=seed,
        batch_size=batch_size,
        allocation=denoiser.card.allocation,
    )
    if time_limit is None:
        results = list(classifier.classify(data.items))
    else:
        order = [data.items[i] for i in stratified_order(data)]
        results = list(_until(began + time_limit, classifier, order))
    return _summarised(data, results, time.monotonic() - began)


def _until(
    deadline: float, classifier: DiffusionMethod, items: Sequence[Item]
) -> Iterator[ClassScores]:
    """Scores of as many images, from the first, as fit into the time until a deadline.

    How many follow depends on the time that the earlier ones took, never on their own: an image
    that takes long counts as any other.
    """
    began, done, count = time.monotonic(), 0, FIRST_IMAGES
    while items and count > 0:
        yield from classifier.classify(items[:count])
        done, items = done + len(items[:count]), items[count:]
        now = time.monotonic()
        count = int(SHARE_OF_REST * (deadline - now) / max((now - began) / done, 1e-9))


def _summarised(data: Dataset, results: Sequence[ClassScores], seconds: float) -> Validation:
    scored = {result.image_id: result for result in results if result.error is None}
    failed = [result for result in results if result.error is not None]
    if failed:
        logger.warning(
            "%d of %d images could not be scored: %s", len(failed), len(results), failed[0].error
        )
    items = [item for item in data.items if item.image_id in scored]
    ordered = [scored[item.image_id] for item in items]
    labels = tuple(item.label for item in items)
    rankings = [result.ranking for result in ordered]
    return Validation(
        np.stack([result.scores for result in ordered]) if ordered else np.empty((0, 0)),
        labels,
        top_k_accuracy(rankings, labels) if ordered else float("nan"),
        asked=len(data),
        failed=len(failed),
        evaluations=float(np.mean([r.evaluations for r in ordered])) if ordered else 0.0,
        seconds=seconds,
    )


def validators(
    benchmark: str,
    data_root: str | None = None,
    seed: int = 0,
    without: tuple[str, ...] = (),
) -> Validators:
    """Validators of a training: few images and draws for the curve, default ones at the end."""
    few, most = {"validation": CURVE_IMAGES}, {"test": MAX_TEST_IMAGES}
    return Validators(
        ZeroShotValidator(benchmark, Racing(CURVE_DRAWS), few, data_root, seed, without),
        ZeroShotValidator(benchmark, Racing(), most, data_root, seed, without),
    )
