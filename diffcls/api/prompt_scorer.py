"""Scorer of images against prompts: the part of the zero-shot classifier below its labels."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from diffcls.api import load_arguments
from diffcls.api.call_arguments import labels_of, rows_of, templates_of
from diffcls.api.control import check_without
from diffcls.api.image_openers import opener
from diffcls.api.image_scores import checked, classified
from diffcls.api.inputs import as_batch
from diffcls.api.pipelines import OnPipelines
from diffcls.api.remote_images import PUBLIC_ONLY, WebAccess
from diffcls.data.prompts import PromptSet
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.support.errors import DataError, UsageError

if TYPE_CHECKING:
    from diffcls.api.live_race import RaceState
    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.explain.evidence import Evidence
    from diffcls.models.denoiser import Denoiser
    from diffcls.scoring.class_scores import ClassScores

TEMPLATE = "a photo of a {}."
DEFAULT_ROWS = 64


class PromptScorer(OnPipelines):
    """Scores images against prompts with a diffusion model; several threads may use it.

    Args:
        denoiser, search, search_options, seed, batch_size: see
            `diffcls.api.zero_shot.ZeroShotImageClassifier`.

    Raises:
        UsageError: for an unknown search, or an option that it does not have.
    """

    # of the class: pickles of earlier versions have none of their own
    hypothesis_template: str | Sequence[str] = TEMPLATE
    web_access: WebAccess = PUBLIC_ONLY

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        search: str = "racing",
        search_options: dict[str, Any] | None = None,
        seed: int = 0,
        batch_size: int = DEFAULT_ROWS,
    ) -> None:
        self.denoiser, self.seed = denoiser, seed
        self.batch_size = rows_of(batch_size) or DEFAULT_ROWS
        self.search = load_arguments.build_search(search, search_options or {})
        # the published stages define their own draws
        self.allocation = EVEN if search == "paper" else denoiser.card.allocation
        self._start()

    def _start(self, source: dict[str, Any] | None = None) -> None:
        """Set what a pickle does not hold."""
        self._source = source
        self.control = (source or {}).get("control")
        self._followed = None
        self._base = self.denoiser  # without learned concepts
        # by all that defines it; of the latest call alone
        self._methods: dict[tuple[Any, ...], DiffusionMethod] = {}
        self._lock = threading.RLock()

    def scores(
        self,
        method: DiffusionMethod,
        images: Sequence[Any],
        access: WebAccess = PUBLIC_ONLY,
        batch_size: int | None = None,
    ) -> list[ClassScores]:
        """The scores of each image, in order.

        Args:
            method: see `method`.
            images: one or more.
            access: limits for images from the web.
            batch_size: rows of every forward pass, if they are not the method's.

        Raises:
            DataError: without images, or for an image that cannot be scored; the message has its
                index.
        """
        if len(images) == 0:
            raise DataError("no image", given=images, allowed="one or more")
        openers = [opener(image, f"image {i}", access) for i, image in enumerate(images)]
        results = classified(method, openers, batch_size, self._lock)
        return [checked(result, i) for i, result in enumerate(results)]

    def race(
        self,
        image: Any,
        candidate_labels: Iterable[str],
        hypothesis_template: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
    ) -> Generator[RaceState]:
        """The states of the search on one image, while it runs: one per draw, or per batch.

        The last state holds what a call with the same arguments returns. The model works only while
        a state is requested, and ``close()`` ends the computation. Several threads may iterate over
        races of their own at the same time::

            for state in classifier.race(image, ["cat", "dog", "fox"]):
                print(state.evaluations, state.prediction[0], state.eliminated)

        Args:
            image: one image, in any form that a call takes.
            candidate_labels, hypothesis_template, batch_size: as of a call.

        Returns:
            An iterator over `diffcls.api.live_race.RaceState`.

        Raises:
            UsageError: as a call.
            DataError: as a call; for an image that cannot be read, with the first state.
            ModelError: if the model is moved to another device meanwhile.
        """
        from diffcls.api import live_race

        one = _one_image("race", image)
        labels, rows = labels_of(candidate_labels), rows_of(batch_size)
        method = self._method(labels, self._templates(hypothesis_template))
        open_image = opener(one, "image", self.web_access)
        return live_race.race(method, open_image, rows, self._lock, self._current_model)

    def _current_model(self) -> Denoiser:
        self._follow()
        return self.denoiser

    def explain(
        self,
        image: Any,
        label: str,
        other: str,
        hypothesis_template: str | Sequence[str] | None = None,
        draws: int = 64,
        words: bool = True,
        candidate_labels: Sequence[str] | None = None,
    ) -> Evidence:
        """Evidence in an image for one label over another, by position, timestep and word.

        Args:
            image: one image, in any form that a call takes.
            label, other: the two labels.
            hypothesis_template: as of a call.
            draws: (timestep, noise) draws per label; the standard errors fall with their root.
            words: whether to score the prompts without each of their words, too.
            candidate_labels: all labels of a call, for a class-conditional model without names of
                its classes: there, label k stands for class k. Default: the two labels.

        Returns:
            An object with ``map`` and ``stderr`` (H, W), ``per_timestep``, ``words`` and
            ``save(path)``; see `diffcls.explain.evidence.Evidence`.

        Raises:
            UsageError: for equal labels, labels that are no candidates, fewer than two draws, or a
                classifier with a ``control``.
            DataError: for an image that cannot be read.
        """
        from diffcls.explain.measurement import measure_evidence, thorough_method

        check_without(self.control, "explanations")
        one_image = _one_image("explain", image)
        pair = labels_of([label, other])
        labels = pair if candidate_labels is None else labels_of(candidate_labels)
        for one in pair:
            if one not in labels:
                raise UsageError("label is no candidate", given=one, allowed=labels)
        with self._lock:
            self._follow()
            prompts = self.prompts(labels, self._templates(hypothesis_template))
            method = thorough_method(
                self.denoiser, prompts, draws, self.seed, self.batch_size, self.allocation
            )
            pixels = method.pixels(opener(one_image, "image", self.web_access)())
            first, second = map(labels.index, pair)
            return measure_evidence(method, pixels, first, second, words)

    def _templates(self, given: str | Sequence[str] | None) -> tuple[str, ...]:
        """The templates of a call: those that are given, or the classifier's own."""
        return templates_of(self.hypothesis_template if given is None else given)

    def _method(self, labels: tuple[str, ...], templates: tuple[str, ...]) -> DiffusionMethod:
        # the prompts of the latest set of labels stay encoded
        key = (labels, templates, self.seed, self.batch_size)
        with self._lock:
            self._follow()
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
        from diffcls.classifiers.control_options import give_maps
        from diffcls.classifiers.diffusion import DiffusionMethod

        method = DiffusionMethod(
            self.denoiser,
            prompts,
            self.search,
            seed=self.seed,
            batch_size=self.batch_size,
            allocation=self.allocation,
        )
        if self.control is not None:
            give_maps(method, self.control)
        return method


def _one_image(function: str, image: Any) -> Any:
    batch, several = as_batch(image)
    if several:
        raise UsageError(f"{function} takes one image", given=f"{len(batch)} images")
    return batch[0]
