"""Batches of evaluations and of probes, requests of many images that run as one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.scoring.image_state import ImageState
from diffcls.scoring.next_requests import NO_PAIRS, likely_next
from diffcls.scoring.scorer import Scorer
from diffcls.search.embeddings import Points
from diffcls.search.screening import Probe
from diffcls.support.free_memory import release_free_memory


class Evaluation(NamedTuple):
    """Request for the error of one prompt of an image on one draw."""

    image: ImageState
    prompt: int
    draw: int


class ProbeRequest(NamedTuple):
    """Request for a probe of an image; `place` is its index among the image's probes."""

    image: ImageState
    place: int
    probe: Probe


class Batch(Protocol):
    """Requests that are processed together in one pass of the network.

    Attributes:
        precision: of results that are not finite: in which precision they were repeated.
    """

    precision: str

    def __len__(self) -> int:
        """Number of requests."""

    @property
    def images(self) -> list[ImageState]:
        """The image of each request; repeats are possible."""

    def fill(self, free_rows: int) -> None:
        """Add speculative work for rows that would only be padding."""

    def select(self, rows: Sequence[int]) -> Batch:
        """The requests of some rows alone."""

    def measure(self, scorer: Scorer) -> Tensor:
        """(M, ...) results on the device, of the requests and then of the speculative work."""

    def deliver(self, results: Tensor) -> None:
        """Write the results (M, ...), on the CPU, into the states of the images."""

    def put_back(self) -> None:
        """Return the requests to the front of their queue."""


RequestT = TypeVar("RequestT", Evaluation, ProbeRequest)


@dataclass
class Requests(Generic[RequestT]):
    """Requests of one kind, from one queue.

    Args:
        requests: in order.
        requeue: returns requests to the front of their queue.
        precision: see `Batch`.
    """

    requests: list[RequestT]
    requeue: Callable[[list[RequestT]], None]
    precision: str = field(default="in single precision too", kw_only=True)

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def images(self) -> list[ImageState]:
        return [request.image for request in self.requests]

    def put_back(self) -> None:
        self.requeue(self.requests)


@dataclass
class EvaluationBatch(Requests[Evaluation]):
    """Evaluations of many images.

    Args:
        requests, requeue: see `Requests`.
        speculative: evaluations that no image has requested yet.
    """

    speculative: list[Evaluation] = field(default_factory=list)

    def fill(self, free_rows: int) -> None:
        self.speculative = speculate(self.images, free_rows) if free_rows else []

    def select(self, rows: Sequence[int]) -> EvaluationBatch:
        return EvaluationBatch([self.requests[row] for row in rows], self.requeue)

    def measure(self, scorer: Scorer) -> Tensor:
        images, prompts, draws = zip(*self.requests, *self.speculative, strict=True)
        x0, control = [image.x0 for image in images], controls_of(images)
        return scorer.errors(x0, torch.tensor(prompts), draws, control)

    def deliver(self, results: Tensor) -> None:
        errors = results.tolist()
        count = len(self.requests)
        for request, error in zip(self.requests, errors[:count], strict=True):
            if not np.isfinite(error):
                request.image.error = _not_finite(request, self.precision)
            request.image.record(request.prompt, request.draw, error)
        for (image, prompt, draw), error in zip(self.speculative, errors[count:], strict=True):
            image.speculative[prompt, draw] = error


@dataclass
class ProbeBatch(Requests[ProbeRequest]):
    """Probes of many images, all with gradients or all without.

    Args:
        requests, requeue: see `Requests`.
        points: embeddings between the prompts.
        gradient, features: see `diffcls.search.screening.Probe`.
    """

    points: Points
    gradient: bool
    features: bool = False

    def fill(self, free_rows: int) -> None:
        """Nothing: the next probes depend on the results of these."""

    def select(self, rows: Sequence[int]) -> ProbeBatch:
        chosen = [self.requests[row] for row in rows]
        return ProbeBatch(chosen, self.requeue, self.points, self.gradient, self.features)

    def measure(self, scorer: Scorer) -> Tensor:
        x0 = torch.stack([request.image.x0 for request in self.requests])
        at = self.points.at([request.probe.members for request in self.requests])
        draws = [request.probe.draw for request in self.requests]
        if not self.gradient:
            return scorer.errors_at(x0, at, draws, controls_of(self.images))[:, None]
        # a backward pass needs blocks of other sizes than the forward passes before and after it
        release_free_memory()
        result = self._first_order(scorer, x0, at, draws)
        release_free_memory()
        return result

    def _first_order(
        self, scorer: Scorer, x0: Tensor, at: Conditioning, draws: Sequence[int]
    ) -> Tensor:
        """(M, K) first-order errors, or (M, K + F) with the network's features."""
        control = controls_of(self.images)
        if not self.features:
            errors, gradients = scorer.gradients(x0, at, draws, control)
            return self.points.first_order(errors, gradients, at)
        errors, gradients, features = scorer.gradients_and_features(x0, at, draws, control)
        return torch.cat([self.points.first_order(errors, gradients, at), features], dim=1)

    def deliver(self, results: Tensor) -> None:
        for (image, place, probe), result in zip(self.requests, results.numpy(), strict=True):
            if not np.isfinite(result).all():
                image.error = (
                    f"the screen of {image.image_id} is not finite, {self.precision}, "
                    f"draw {probe.draw}"
                )
            image.probe_results[place] = result if probe.gradient else result[0]
            image.evaluations += probe.evaluations
            if probe.reuse:
                image.keep_for_race(probe.members[0], probe.draw, float(result[0]))


def controls_of(images: Sequence[ImageState]) -> Tensor | None:
    """(M, ...) encoded maps of images; None for a model without a ControlNet."""
    maps = [image.control for image in images if image.control is not None]
    return torch.stack(maps) if maps else None


def speculate(images: Sequence[ImageState], free_rows: int) -> list[Evaluation]:
    """Speculative evaluations: the likely next requests of the images, for rows that are free.

    The next draw of every image first, then the one after that: the further ahead, the more likely
    the class is dropped before.
    """
    chosen: list[Evaluation] = []
    unique = list({id(image): image for image in images}.values())
    for pairs_of_each in zip_longest(*map(likely_next, unique), fillvalue=NO_PAIRS):
        for image, pairs in zip(unique, pairs_of_each, strict=True):
            chosen.extend(Evaluation(image, *pair) for pair in pairs.tolist())
        if len(chosen) >= free_rows:
            break
    return chosen[:free_rows]


def _not_finite(request: Evaluation, precision: str) -> str:
    prompts = request.image.task.prompts.prompts
    return (
        f"noise prediction of {request.image.image_id} is not finite, {precision}, "
        f"for prompt {[*prompts, ''][request.prompt]!r}, draw {request.draw}"
    )
