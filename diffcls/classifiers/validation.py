"""Zero-shot validation of a denoiser while it is trained, as a callback for training loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.load import load_dataset
from diffcls.data.prompts import benchmark_prompts
from diffcls.data.subsets import choose
from diffcls.metrics.classification import top_k_accuracy
from diffcls.models.denoiser import Denoiser
from diffcls.search.base import Search
from diffcls.search.racing import Racing
from diffcls.training.validation import CURVE_DRAWS, CURVE_IMAGES, Validation, Validators

MAX_TEST_IMAGES = 500
"""Test images of the finished model's summary; the evaluate command scores all of them."""


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
    """

    benchmark: str
    search: Search = field(default_factory=Racing)
    limits: Mapping[str, int] = field(default_factory=dict)
    data_root: str | None = None
    seed: int = 0

    def __call__(self, denoiser: Denoiser, split: str) -> Validation:
        """Scores, labels and accuracy on a split, with the timestep allocation of the card.

        Raises:
            UsageError, DataError: see `diffcls.data.load.load_dataset`.
        """
        data, _ = choose(
            load_dataset(self.benchmark, split, self.data_root), self.limits.get(split)
        )
        prompts = benchmark_prompts(self.benchmark, data, len(data.items[0].candidates))
        classifier = DiffusionMethod(
            denoiser, prompts, self.search, seed=self.seed, allocation=denoiser.card.allocation
        )
        results = {result.image_id: result for result in classifier.classify(data.items)}
        ordered = [results[item.image_id] for item in data.items]
        labels = [item.label for item in data.items]
        accuracy = top_k_accuracy([result.ranking for result in ordered], labels)
        return Validation(np.stack([r.scores for r in ordered]), tuple(labels), accuracy)


def validators(benchmark: str, data_root: str | None = None, seed: int = 0) -> Validators:
    """Validators of a training: few images and draws for the curve, default ones at the end."""
    return Validators(
        curve=ZeroShotValidator(
            benchmark, Racing(CURVE_DRAWS), {"validation": CURVE_IMAGES}, data_root, seed
        ),
        finished=ZeroShotValidator(benchmark, Racing(), {"test": MAX_TEST_IMAGES}, data_root, seed),
    )
