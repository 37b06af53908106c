"""Zero-shot image classifier, called as transformers' pipeline of that name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet, check_labels
from diffcls.data.transforms import load_image
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.metrics.calibration import posterior
from diffcls.search import SEARCHES
from diffcls.support.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.models.denoiser import Denoiser
    from diffcls.scoring.class_scores import ClassScores

Prediction = list[dict[str, Any]]
"""Labels with their probabilities, best first."""


class ZeroShotImageClassifier:
    """A zero-shot image classifier from a diffusion model.

    It scores images against any labels::

        classifier = ZeroShotImageClassifier.from_pretrained("digits")
        classifier(image, candidate_labels=["three", "seven"])
        # [{"label": "seven", "score": 0.98}, {"label": "three", "score": 0.02}]

    Args:
        denoiser: the model; see `from_pretrained` for a name or a path.
        search: racing, paper, exhaustive, halving, gradient or tree; propose with `proposer`.
        search_options: options of that search, such as ``draws=50``.
        seed: seed of the noise.
        batch_size: rows of every forward pass of the model.

    Raises:
        UsageError: for an unknown search, or an option that it does not have.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        search: str = "racing",
        search_options: dict[str, Any] | None = None,
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        self.denoiser, self.seed, self.batch_size = denoiser, seed, batch_size
        try:
            self.search = SEARCHES.load(search)(**(search_options or {}))
        except TypeError as error:
            raise UsageError(f"the search {search!r} has no such option: {error}") from None
        # the published stages define their own draws
        self.allocation = EVEN if search == "paper" else denoiser.card.allocation
        self._methods: dict[tuple[tuple[str, ...], str], DiffusionMethod] = {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str = "digits",
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        search: str = "racing",
        seed: int = 0,
        batch_size: int = 64,
        img_size: int | None = None,
        **search_options: Any,
    ) -> ZeroShotImageClassifier:
        """A classifier on a bundled model or a diffusers pipeline folder.

        Args:
            name_or_path: a bundled name, or a folder.
            device: ``auto`` (default), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            dtype: ``float32`` (default on a CPU), ``bfloat16`` (elsewhere) or ``float16``.
            search, seed, batch_size: see the class.
            img_size: side of the images in pixels; default: the model's training size.
            search_options: options of the search, such as ``draws=50``.

        Raises:
            UsageError, ModelError: see `diffcls.models.loading.load`.
        """
        SEARCHES[search]  # an unknown name is refused before anything heavy is loaded
        from diffcls.models import devices, loading

        if dtype is None or isinstance(dtype, str):
            dtype = devices.resolve_dtype(dtype)
        denoiser = loading.load(name_or_path, devices.resolve_device(device), dtype, img_size)
        return cls(
            denoiser, search=search, search_options=search_options, seed=seed, batch_size=batch_size
        )

    def __call__(
        self,
        images: Any,
        candidate_labels: Sequence[str],
        hypothesis_template: str = "a photo of a {}.",
    ) -> Prediction | list[Prediction]:
        """The posterior over the labels, best first.

        Args:
            images: a PIL image, a path, or an array (H, W) or (H, W, 3); or a list of these, or an
                array (B, H, W, 3).
            candidate_labels: two or more different texts.
            hypothesis_template: text with one ``{}``.

        Returns:
            ``[{"label": text, "score": p}, …]`` with the p summing to 1; for a list of images, a
            list of those, in its order.

        Raises:
            UsageError: for fewer than two labels, a label twice, or a template without ``{}``.
            DataError: for an empty list, or an image that cannot be read.
        """
        many = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
        batch = list(images) if many else [images]
        labels = check_labels(candidate_labels)
        method = self._method(labels, hypothesis_template)
        predictions = []
        for result in self.scores(method, batch):
            p = posterior(result.scores, method.likelihood_scale)
            predictions.append([{"label": labels[k], "score": float(p[k])} for k in result.ranking])
        return predictions if many else predictions[0]

    def scores(self, method: DiffusionMethod, images: Sequence[Any]) -> list[ClassScores]:
        """The scores of each image, in order.

        Raises:
            DataError: without images, or for an image that cannot be scored; the message has its
                index.
        """
        if len(images) == 0:
            raise DataError("no image", given=images, allowed="one or more")
        items = [Item(str(i), 0, partial(load_image, image)) for i, image in enumerate(images)]
        by_id = {result.image_id: result for result in method.classify(items)}
        results = [by_id[item.image_id] for item in items]
        for i, result in enumerate(results):
            if result.error is not None:
                raise DataError(f"image {i} cannot be scored: {result.error}")
        return results

    def _method(self, labels: tuple[str, ...], template: str) -> DiffusionMethod:
        # the prompts of the latest set of labels stay encoded
        key = (labels, template)
        if key not in self._methods:
            self._methods = {key: self.method(self._prompts(labels, template))}
        return self._methods[key]

    def _prompts(self, labels: tuple[str, ...], template: str) -> PromptSet:
        if self.denoiser.labels is None:
            return PromptSet.from_templates(labels, [template])
        from diffcls.data.class_ids import class_prompts

        return class_prompts(labels, self.denoiser.labels)  # a model without a text encoder

    def method(self, prompts: PromptSet) -> DiffusionMethod:
        """The classification method for a set of prompts."""
        from diffcls.classifiers.diffusion import DiffusionMethod

        return DiffusionMethod(
            self.denoiser,
            prompts,
            self.search,
            seed=self.seed,
            batch_size=self.batch_size,
            allocation=self.allocation,
        )


def score_matrix(results: Sequence[ClassScores]) -> np.ndarray:
    """(n, K) scores of n results."""
    return np.stack([result.scores for result in results])
