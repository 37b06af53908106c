"""Diffusion classifier: the class whose prompt predicts the noise best.

p(c | x0) ∝ exp(−E_{t,ε} ‖ε − ε_θ(α_t·x0 + σ_t·ε, t, c)‖²)      (Li et al. 2023, eq. 5)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcls.classifiers.aggregation_options import check_aggregation
from diffcls.classifiers.background import check_background
from diffcls.classifiers.batch_timing import seconds_per_batch
from diffcls.classifiers.model_check import check_on_items
from diffcls.data.dataset import Item
from diffcls.data.distinct_prompts import check_distinct
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_pixels
from diffcls.diffusion.draws import DrawPlan, rotation
from diffcls.diffusion.timestep_allocation import EVEN, allocate
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.scoring.batch_runner import BatchRunner, Launched
from diffcls.scoring.batch_size import PartedBatch
from diffcls.scoring.class_scores import ClassScores
from diffcls.scoring.final_scores import final_scores
from diffcls.scoring.image_state import ClassPrior, ImageState, MapOf, ScoringTask
from diffcls.scoring.prefetch import Pixels, Prefetcher
from diffcls.scoring.queues import Queues
from diffcls.scoring.scorer import Scorer
from diffcls.scoring.scoring import Scoring
from diffcls.scoring.search_state import SearchProgress, SearchState
from diffcls.search.aggregation import VOTES
from diffcls.search.base import Search
from diffcls.search.embeddings import Points
from diffcls.search.screening import Screen, StartScreening
from diffcls.support.errors import DataError, UsageError


class DiffusionMethod:
    """Zero-shot classifier that scores images against prompts, with continuous batching.

    Images with candidates of their own (`PromptSet.asked`) are scored against these alone, and the
    error of the empty prompt on the same draws is subtracted from all scores, so that the scores of
    one text on different images can be compared.

    Args:
        denoiser: the model.
        prompts: candidate classes.
        search: allocation of (class, draw) evaluations.
        scoring: loss and weighting, see `diffcls.scoring.scoring.Scoring`.
        seed: seed of the noise.
        batch_size: rows of every forward pass of the denoiser.
        encode_batch: rows of every forward pass of the image encoder.
        noise_path: see `diffcls.diffusion.draws.DrawPlan`.
        keep_errors: return each image's error table with its scores.
        interpolation: resizing of images, see `diffcls.data.transforms.to_pixels`; None: the
            model's own.
        aggregate: ``classes``: the errors of a class's prompts are averaged, and classes compete;
            ``prompts``: prompts compete, as in the published script, and a class has the score of
            its best prompt; ``rotate``: each draw evaluates one of a class's prompts.
        vote: aggregation of the draws, see `diffcls.search.aggregation`.
        allocation: distribution of the draws over timesteps, see
            `diffcls.diffusion.timestep_allocation`.
        background: a prompt that is scored beside the best candidate on all N draws of the search,
            "" for the empty one; None for no background. See `diffcls.classifiers.background`.

    Raises:
        UsageError: for an unknown aggregate or vote, and for a combination that is not supported.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        prompts: PromptSet,
        search: Search,
        scoring: Scoring | None = None,
        seed: int = 0,
        batch_size: int = 64,
        encode_batch: int = 16,
        noise_path: str | None = None,
        keep_errors: bool = False,
        interpolation: str | None = None,
        aggregate: str = "classes",
        vote: str = "mean",
        allocation: str = EVEN,
        background: str | None = None,
    ) -> None:
        check_aggregation(aggregate, vote, prompts, search)
        self.denoiser, self.prompts, self.search = denoiser, prompts, search
        self.encode_batch = encode_batch
        schedule = denoiser.schedule
        indices = allocate(search.plan(len(schedule)), allocation, schedule)
        self.plan = DrawPlan(indices, seed, noise_path)
        check_distinct(prompts, denoiser.prompt_keys(prompts.prompts))
        if background is not None:
            check_background(denoiser, prompts, background, vote)
        # the empty prompt or the background prompt, if there is one, comes last
        last = [""] if prompts.asked else [] if background is None else [background]
        texts = [*prompts.prompts, *last]
        self._rows = len(texts)
        cond = denoiser.encode_prompts(texts)
        self.scorer = Scorer(denoiser, cond, self.plan, scoring, batch_size)
        self.interpolation = interpolation or denoiser.interpolation
        prompts_race = aggregate == "prompts" and len(prompts) > prompts.n_classes
        # scores are means over dimensions: the posterior needs sums, and temperature scaling
        dimensions = float(np.prod(denoiser.sample_shape))
        self.likelihood_scale = dimensions / denoiser.card.temperature
        # ranks and votes are not log-likelihoods
        self.posterior_scale = self.likelihood_scale if vote == "mean" else None
        self.task = ScoringTask(
            prompts,
            search,
            VOTES[vote],
            prompts_race,
            subtract_empty=bool(prompts.asked) and vote == "mean",
            keep_errors=keep_errors,
            background=background is not None,
            turn=rotation(prompts.templates, len(self.plan), seed)
            if aggregate == "rotate"
            else None,
        )
        self.class_prior: ClassPrior | None = None
        """Prior of each image's classes; see `diffcls.classifiers.class_prior`."""
        self.map_of: MapOf | None = None  # of a model with a ControlNet
        # a screen is of the candidates alone
        self.candidate_conditioning = Conditioning(
            {name: rows[: len(prompts)] for name, rows in cond.items()}
        )
        self._start_screening: StartScreening | None = None
        self._points: Points | None = None
        self._fit: Callable[[], object] | None = None
        self._runner, self._encoding = BatchRunner(self.scorer), PartedBatch("image")
        if search.screen is not None:
            self.use_screen(search.screen)

    def use_screen(self, screen: Screen, fit: Callable[[], object] | None = None) -> None:
        """Screen all images by `screen`; `fit` is called before the first image is timed."""
        self._fit = fit
        self._start_screening = screen.prepare(self.prompts, self.candidate_conditioning)
        self._points = Points(self.prompts, self.candidate_conditioning)

    def with_search(self, search: Search) -> DiffusionMethod:
        """This classifier, with its model and draws, by another search without a screen."""
        other = copy(self)
        other.search, other.task = search, replace(self.task, search=search)
        other._start_screening = other._points = other._fit = None
        return other

    @property
    def batch_size(self) -> int:
        """Rows of every forward pass of the denoiser."""
        return self.scorer.batch_size

    @batch_size.setter
    def batch_size(self, rows: int) -> None:
        self.scorer.batch_size = rows

    def seconds_per_batch(self) -> float:
        """See `diffcls.classifiers.base.Method`."""
        return seconds_per_batch(self.scorer)

    def check(self, items: Sequence[Item]) -> None:
        """See `diffcls.models.self_test.check_model`; images that cannot be read are skipped."""
        prompts = self.prompts
        first = [prompts.prompts[prompts.rows_of(k)[0]] for k in range(prompts.n_classes)]
        check_on_items(self.denoiser, items, self._pixels, lambda item: first[item.class_index])

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """Scores of each image, in order of completion; see `diffcls.classifiers.base.Method`."""
        for event in self._events(items):
            if isinstance(event, ClassScores):
                yield event

    def race(self, item: Item) -> Generator[SearchState]:
        """States of the search on one image, the last of which holds the scores of `classify`.

        Closing the iterator ends the computation: no further batch is launched. The method has no
        background prompt.

        Raises:
            DataError: if the image cannot be scored.
        """
        progress, image = SearchProgress(), None
        with closing(self._events([item])) as events:
            for event in events:
                if isinstance(event, ImageState):
                    image = event
                    yield from progress.states(event)
                elif event.error is not None or image is None:
                    raise DataError(f"{event.error}")
                else:
                    yield from progress.last(image, event)

    def _events(self, items: Iterable[Item]) -> Generator[ImageState | ClassScores]:
        """Images that wait for further results, after each batch; and scores of finished ones."""
        if self._fit is not None:
            self._fit()
        reader = Prefetcher(map(self._checked, items), self._pixels, self.encode_batch)
        try:
            yield from self._classify(reader)
        finally:
            reader.close()

    def _classify(self, reader: Prefetcher) -> Generator[ImageState | ClassScores]:
        runner, queues = self._runner, Queues(self._points)
        encoded: deque[ImageState] = deque()
        pending: Launched | None = None
        exhausted = False
        while True:
            # admit images until a full batch waits, and no more: memory stays bounded
            while queues.longest() < self.batch_size and (encoded or not exhausted):
                if encoded:
                    yield self._advance(encoded.popleft(), queues)
                    continue
                started, failed = self._admit(reader)
                exhausted = not started and not failed
                encoded.extend(started)
                yield from failed
            launched = runner.launch(queues) if queues else None
            # on an accelerator, process the previous batch while this one runs
            ready, pending = (pending, launched) if runner.overlaps else (launched, None)
            if ready:
                complete = runner.collect(ready)
                yield from {
                    id(image): image for image in ready.batch.images if image.pending
                }.values()
                for image in complete:
                    yield self._advance(image, queues)
            if exhausted and not queues and pending is None:
                return

    def _advance(self, image: ImageState, queues: Queues) -> ImageState | ClassScores:
        """Queue the next requests of an image; its scores if there are none."""
        if image.error is None:
            queues.add(image)
        return image if image.pending else final_scores(image)

    def _checked(self, item: Item) -> Item:
        if len(item.candidates) != self.prompts.asked:
            raise UsageError(
                f"the prompts do not fit images of {len(item.candidates)} candidates of their own",
                given=item.image_id,
                allowed=f"{self.prompts.asked} candidates, 0 for all classes",
            )
        return item

    def _admit(self, reader: Prefetcher) -> tuple[list[ImageState], list[ClassScores]]:
        """Read and encode the next images; both lists are empty at the end of the stream."""
        began = time.perf_counter()
        batch = reader.take()
        started, failed = [], batch.failed
        if not batch.items:
            return [], failed
        latents = self.encode(batch.pixels)
        share = (time.perf_counter() - began) / len(batch.items)
        finite = torch.isfinite(latents).flatten(1).all(dim=1).tolist()
        for item, pixels, x0, whole in zip(batch.items, batch.pixels, latents, finite, strict=True):
            if whole:
                try:
                    started.append(self._start(item, pixels, x0, share))
                except (DataError, OSError, ValueError) as error:  # a screen may reopen the image
                    failed.append(ClassScores.failed(item.image_id, f"{error}", share))
            else:
                failure = f"image encoding of {item.image_id} is not finite, in single precision"
                failed.append(ClassScores.failed(item.image_id, failure, share))
        return started, failed

    def _start(self, item: Item, pixels: Pixels, x0: Tensor, seconds: float) -> ImageState:
        shape = (self._rows, len(self.plan))
        began = time.perf_counter()
        screening = self._start_screening(item.open) if self._start_screening else None
        prior = self.class_prior(item.open) if self.class_prior else None
        control = self.map_of(item.image_id, pixels) if self.map_of else None
        seconds += time.perf_counter() - began
        known = (item.candidates, x0, shape, self.task, screening, prior, control, seconds)
        return ImageState(item.image_id, *known)

    def encode(self, pixels: list[Pixels]) -> Tensor:
        """(M, C, h, w) of at most `encode_batch` images (3, H, W), in a batch of one shape."""
        # so latents do not depend on the batch
        padded = pixels + pixels[-1:] * (self.encode_batch - len(pixels))
        whole = torch.from_numpy(np.stack(padded))
        return self._encoding.compute(self.denoiser.encode_images, whole)[: len(pixels)]

    def pixels(self, image: Any) -> Pixels:
        """(3, H, W) in [−1, 1]: an image as the model receives it; see `load_image`."""
        return to_pixels(load_image(image), self.denoiser.image_size, self.interpolation)

    def _pixels(self, item: Item) -> Pixels:
        return self.pixels(item.open())
