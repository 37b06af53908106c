"""Zero-shot image classifier, called as transformers' pipeline of that name."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.api.image_openers import opener
from diffcls.api.inputs import as_batch
from diffcls.api.remote_images import TIMEOUT_SECONDS
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet, check_labels
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.metrics.calibration import posterior
from diffcls.search import SEARCHES
from diffcls.support.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    import torch

    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.explain.evidence import Evidence
    from diffcls.models.denoiser import Denoiser
    from diffcls.scoring.class_scores import ClassScores

Prediction = list[dict[str, Any]]
"""Labels with their probabilities, best first."""
TEMPLATE = "a photo of a {}."


class ZeroShotImageClassifier:
    """A zero-shot image classifier from a diffusion model.

    It scores images against any labels::

        classifier = ZeroShotImageClassifier.from_pretrained("digits")
        classifier(image, candidate_labels=["three", "seven"])
        # [{"label": "seven", "score": 0.98}, {"label": "three", "score": 0.02}]

    It may be used by several threads, one at a time scores. A classifier `from_pretrained` is
    pickled as the arguments of that call, and loads its model again; others with all their weights.

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
        self._start()

    def _start(self, source: dict[str, Any] | None = None) -> None:
        """Set what a pickle does not hold."""
        self._source = source
        self._methods: dict[tuple[tuple[str, ...], tuple[str, ...]], DiffusionMethod] = {}
        self._lock = threading.RLock()

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
        made = cls(
            denoiser, search=search, search_options=search_options, seed=seed, batch_size=batch_size
        )
        local = name_or_path not in loading.bundled() and Path(name_or_path).exists()
        name = str(Path(name_or_path).absolute()) if local else name_or_path
        source = {"name_or_path": name, "device": device, "dtype": dtype, "img_size": img_size}
        source |= {"search": search, "seed": seed, "batch_size": batch_size, **search_options}
        made._start(source)
        return made

    def __getstate__(self) -> dict[str, Any]:
        if self._source is not None:
            return {"source": self._source, "revision": self.denoiser.card.revision}
        state = {k: v for k, v in vars(self).items() if k not in ("_lock", "_methods", "_source")}
        # as bytes: tokenizers have no pickle of the oldest protocols
        return {**state, "denoiser": pickle.dumps(self.denoiser)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "source" not in state:
            vars(self).update(state, denoiser=pickle.loads(state["denoiser"]))
            self._start()
            return
        loaded = type(self).from_pretrained(**state["source"])
        card = loaded.denoiser.card
        if card.revision != state["revision"]:
            raise ModelError(
                "the model of a pickled classifier has changed",
                given=f"{card.name}, revision {card.revision}",
                allowed=f"revision {state['revision']}",
                todo="restore that model, or make the classifier again",
            )
        vars(self).update(vars(loaded))

    def __call__(
        self,
        images: Any,
        candidate_labels: Sequence[str],
        hypothesis_template: str | Sequence[str] = TEMPLATE,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Prediction | list[Prediction]:
        """The posterior over the labels, best first.

        Args:
            images: a PIL image, a path, an ``http(s)://`` address, base64 text or a data URI, bytes
                or a binary file, ``{"bytes": …, "path": …}``, a row of a data set with a column
                ``image``, or an array (H, W) or (H, W, C), or tensor (C, H, W), of integers in
                0–255 or floats in 0–1. Or several: a list or generator, an array of four
                dimensions, a pandas series, a column or data set of `datasets`, a torch data set.
            candidate_labels: two or more different texts.
            hypothesis_template: text with one ``{}``; of several, the errors are averaged.
            timeout: time to fetch one image from the web, in seconds.

        Returns:
            ``[{"label": text, "score": p}, …]`` with the p summing to 1; for several images, a list
            of those, in their order.

        Raises:
            UsageError: for fewer than two labels, a label twice, or a template without ``{}``.
            DataError: without images, or for an image that cannot be found or read.
        """
        labels = check_labels(_as_texts(candidate_labels))
        batch, several = as_batch(images)
        method = self._method(labels, _templates(hypothesis_template))
        predictions = []
        for result in self.scores(method, batch, timeout):
            p = posterior(result.scores, method.likelihood_scale)
            predictions.append([{"label": labels[k], "score": float(p[k])} for k in result.ranking])
        return predictions if several else predictions[0]

    def scores(
        self, method: DiffusionMethod, images: Sequence[Any], timeout: float = TIMEOUT_SECONDS
    ) -> list[ClassScores]:
        """The scores of each image, in order.

        Raises:
            DataError: without images, or for an image that cannot be scored; the message has its
                index.
        """
        if len(images) == 0:
            raise DataError("no image", given=images, allowed="one or more")
        items = [
            Item(str(i), 0, opener(image, f"image {i}", timeout)) for i, image in enumerate(images)
        ]
        with self._lock:  # the method's caches serve one stream of images at a time
            by_id = {result.image_id: result for result in method.classify(items)}
        results = [by_id[item.image_id] for item in items]
        for i, result in enumerate(results):
            if result.error is not None:
                raise DataError(f"image {i} cannot be scored: {result.error}")
        return results

    def explain(
        self,
        image: Any,
        label: str,
        other: str,
        hypothesis_template: str | Sequence[str] = TEMPLATE,
        draws: int = 64,
        words: bool = True,
    ) -> Evidence:
        """Evidence in an image for one label over another, by position, timestep and word.

        Args:
            image: one image, in any form that a call takes.
            label, other: the two labels.
            hypothesis_template: as of a call.
            draws: (timestep, noise) draws per label; the standard errors fall with their root.
            words: whether to score the prompts without each of their words, too.

        Returns:
            An object with ``map`` and ``stderr`` (H, W), ``per_timestep``, ``words`` and
            ``save(path)``; see `diffcls.explain.evidence.Evidence`.

        Raises:
            UsageError: for equal labels, or fewer than two draws.
            DataError: for an image that cannot be read.
        """
        from diffcls.explain.measurement import measure_evidence, thorough_method

        batch, several = as_batch(image)
        if several:
            raise UsageError("explain takes one image", given=f"{len(batch)} images")
        prompts = self.prompts(check_labels([label, other]), _templates(hypothesis_template))
        allocation = self.denoiser.card.allocation
        with self._lock:
            method = thorough_method(
                self.denoiser, prompts, draws, self.seed, self.batch_size, allocation
            )
            pixels = method.pixels(opener(batch[0], "image", TIMEOUT_SECONDS)())
            return measure_evidence(method, pixels, words=words)

    def _method(self, labels: tuple[str, ...], templates: tuple[str, ...]) -> DiffusionMethod:
        # the prompts of the latest set of labels stay encoded
        key = (labels, templates)
        with self._lock:
            if key not in self._methods:
                self._methods = {key: self.method(self.prompts(labels, templates))}
            return self._methods[key]

    def prompts(self, labels: Sequence[str], templates: Sequence[str] = (TEMPLATE,)) -> PromptSet:
        """The prompts of a set of labels, or the class ids of a model without a text encoder.

        Raises:
            UsageError: for a template without exactly one ``{}``, templates that the model cannot
                read, or labels that are not among its classes.
        """
        if self.denoiser.labels is None:
            return PromptSet.from_templates(labels, templates)
        from diffcls.data.class_ids import class_prompts

        if tuple(templates) != (TEMPLATE,):
            raise UsageError(
                "a template needs a text-conditional model",
                given=list(templates),
                todo="leave it out: the labels are names of the model's classes",
            )
        return class_prompts(labels, self.denoiser.labels)

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


def _as_texts(labels: Any) -> Sequence[str]:
    """Candidate labels as a sequence.

    Raises:
        UsageError: for a single text, and for anything but a collection.
    """
    if isinstance(labels, str):
        parts = [part.strip() for part in labels.split(",")]
        raise UsageError(
            "candidate labels are a single text",
            given=labels,
            allowed="a list of texts",
            todo=f"give {parts!r}" if len(parts) > 1 else "give two labels or more",
        )
    if isinstance(labels, Mapping) or not isinstance(labels, Iterable):
        raise UsageError("candidate labels cannot be read", given=labels, allowed="a list of texts")
    return list(labels)


def _templates(templates: Any) -> tuple[str, ...]:
    if isinstance(templates, str):
        return (templates,)
    if not isinstance(templates, list | tuple) or not all(isinstance(t, str) for t in templates):
        raise UsageError(
            "hypothesis_template cannot be read",
            given=templates,
            allowed='a text with one {}, such as "a photo of a {}.", or a list of these',
        )
    return tuple(templates)
