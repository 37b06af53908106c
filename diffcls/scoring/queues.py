"""Queues of the requests of many images, for continuous batching."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from diffcls.scoring.batches import Batch, Evaluation, EvaluationBatch, ProbeBatch, ProbeRequest
from diffcls.scoring.image_state import ImageState, Pairs
from diffcls.scoring.next_requests import next_evaluations
from diffcls.search.embeddings import Points
from diffcls.support.invariants import known


class EvaluationQueue:
    """Evaluations in order; they are kept as compact arrays until they are taken."""

    def __init__(self) -> None:
        self._parts: deque[tuple[ImageState, Pairs]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, image: ImageState, pairs: Pairs) -> None:
        """Append the evaluations (M, 2) of one image."""
        self._parts.append((image, pairs))
        self._count += len(pairs)

    def take(self, size: int) -> EvaluationBatch:
        """Remove the first evaluations, at most `size`."""
        requests: list[Evaluation] = []
        while self._parts and len(requests) < size:
            image, pairs = self._parts.popleft()
            free = size - len(requests)
            if len(pairs) > free:
                self._parts.appendleft((image, pairs[free:]))
            # one conversion per part: an image's requests mostly fill several batches
            requests += [Evaluation(image, *pair) for pair in pairs[:free].tolist()]
        self._count -= len(requests)
        return EvaluationBatch(requests, self._put_back)

    def _put_back(self, requests: Sequence[Evaluation]) -> None:
        for image, prompt, draw in reversed(requests):
            self._parts.appendleft((image, np.array([[prompt, draw]])))
            self._count += 1


class ProbeQueue:
    """Probes of one kind in order.

    Args:
        points: embeddings between the prompts; None if the search has no screen.
        gradient, features: see `diffcls.search.screening.Probe`.
    """

    def __init__(self, points: Points | None, gradient: bool, features: bool = False) -> None:
        self._points, self._gradient, self._features = points, gradient, features
        self._requests: deque[ProbeRequest] = deque()

    def __len__(self) -> int:
        return len(self._requests)

    def append(self, request: ProbeRequest) -> None:
        """Append a probe."""
        self._requests.append(request)

    def take(self, size: int) -> ProbeBatch:
        """Remove the first probes, at most `size`."""
        points = known(self._points)
        requests = [self._requests.popleft() for _ in range(min(size, len(self._requests)))]
        return ProbeBatch(requests, self._put_back, points, self._gradient, self._features)

    def _put_back(self, requests: Sequence[ProbeRequest]) -> None:
        self._requests.extendleft(reversed(requests))


class Queues:
    """Requests that wait for the network, by the kind of batch that they run in.

    Args:
        points: embeddings between the prompts, of a search with a screen.
    """

    def __init__(self, points: Points | None = None) -> None:
        self.evaluations = EvaluationQueue()
        self._probes = {
            (gradient, features): ProbeQueue(points, gradient, features)
            for gradient, features in ((False, False), (True, False), (True, True))
        }
        self._all: tuple[EvaluationQueue | ProbeQueue, ...] = (
            self.evaluations,
            *self._probes.values(),
        )

    def __len__(self) -> int:
        return sum(map(len, self._all))

    def add(self, image: ImageState) -> None:
        """Queue the next requests of an image without pending ones; none if it is finished.

        Requests with a speculative result are answered at once, and the next ones follow.
        """
        if image.screening is not None:
            image.deliver_probes()
            probes = image.screening.request()
            if probes:
                image.probe_results = [None] * len(probes)
                image.pending = len(probes)
                for place, probe in enumerate(probes):
                    queue = self._probes[probe.gradient, probe.features]
                    queue.append(ProbeRequest(image, place, probe))
                return
        image.requested, pairs = next_evaluations(image)
        while image.speculative and len(pairs):
            unknown = pairs[[not image.use_speculative(*pair) for pair in pairs.tolist()]]
            if len(unknown):
                pairs = unknown
                break
            image.requested, pairs = next_evaluations(image)
        image.pending = len(pairs)
        if len(pairs):
            self.evaluations.extend(image, pairs)

    def longest(self) -> int:
        """Length of the longest queue."""
        return max(map(len, self._all))

    def take(self, size: int) -> Batch:
        """A batch of at most `size` requests of the longest queue."""
        return max(self._all, key=len).take(size)
