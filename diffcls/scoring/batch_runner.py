"""What many images want of the network, in full batches of one kind and one shape."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcls.scoring.image_state import InFlight, Pairs, Request
from diffcls.scoring.scorer import Scorer
from diffcls.search.embeddings import Points
from diffcls.search.screening import Look
from diffcls.support.errors import ModelError

logger = logging.getLogger(__name__)

LookRequest = tuple[InFlight, int, Look]
"""(image, place among its looks, look)."""

KINDS = ("evaluations", "points", "slopes")


class Evaluations:
    """Evaluations that wait, in order; (image, prompt, draw) only once they are taken."""

    def __init__(self) -> None:
        self._parts: deque[tuple[InFlight, Pairs]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, image: InFlight, pairs: Pairs) -> None:
        """Those of one image."""
        self._parts.append((image, pairs))
        self._count += len(pairs)

    def popleft(self) -> Request:
        """The first one."""
        image, pairs = self._parts.popleft()
        if len(pairs) > 1:
            self._parts.appendleft((image, pairs[1:]))
        self._count -= 1
        prompt, draw = pairs[0].tolist()
        return image, prompt, draw

    def extendleft(self, requests: Iterable[Request]) -> None:
        """One after the other to the front."""
        for image, prompt, draw in requests:
            self._parts.appendleft((image, np.array([[prompt, draw]])))
            self._count += 1


class Queues:
    """What waits to be evaluated: a batch is of one kind, and taken in order."""

    def __init__(self) -> None:
        self._evaluations = Evaluations()
        looks: dict[str, Any] = {kind: deque() for kind in KINDS[1:]}
        self._waiting = {KINDS[0]: self._evaluations, **looks}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, image: InFlight) -> None:
        """Queue what an image wants next; nothing, where its `waiting` stays 0."""
        pairs, looks = image.ask()
        if len(pairs):
            self._evaluations.extend(image, pairs)
        for look in looks:
            self._waiting["slopes" if look[2].slopes else "points"].append(look)

    def longest(self) -> int:
        """How many wait of the kind of which most do."""
        return max(map(len, self._waiting.values()))

    def take(self, size: int) -> tuple[str, list[Any]]:
        """The kind of which most waits, and a batch of it."""
        kind = max(self._waiting, key=lambda name: len(self._waiting[name]))
        queue = self._waiting[kind]
        return kind, [queue.popleft() for _ in range(min(size, len(queue)))]

    def put_back(self, kind: str, batch: list[Any]) -> None:
        """A batch that was taken and not evaluated goes to the front again."""
        self._waiting[kind].extendleft(reversed(batch))


@dataclass
class Launched:
    """A batch that the device is at work on.

    Args:
        kind, batch: what was asked.
        foreseen: evaluations that nobody asked for yet, in rows that were free.
        values: (M, ...) on the device, perhaps not computed yet, of both.
        began: when.
    """

    kind: str
    batch: list[Any]
    foreseen: list[Request]
    values: Tensor
    began: float


class BatchRunner:
    """Evaluates batches and gives the images their values.

    Args:
        scorer: of the model.
        points: of a search with a screen.
    """

    def __init__(self, scorer: Scorer, points: Points | None) -> None:
        self.scorer, self.points = scorer, points
        self._last = 0.0
        # a CPU computes when it is asked; an accelerator is asked for the next batch first
        self.overlaps = scorer.denoiser.device.type != "cpu"

    def launch(self, queues: Queues) -> Launched | None:
        """Take a batch and set the device to work; None where it had no memory for it.

        Then the batch is back in its queue, nothing is lost, and the next one has half the rows.

        Raises:
            ModelError: where there is no memory for one row.
        """
        kind, batch = queues.take(self.scorer.batch_size)
        free = self.scorer.batch_size - len(batch)
        foreseen = foresee(batch, free) if free and kind == "evaluations" else []
        began = time.perf_counter()
        try:
            values = self._measure(kind)([*batch, *foreseen])
            return Launched(kind, batch, foreseen, values, began)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            queues.put_back(kind, batch)
            self._halve(error)
            return None

    def collect(self, launched: Launched) -> list[InFlight]:
        """Give the images their values; returns those of which nothing is out any more."""
        values = self._finite(launched)
        if launched.kind == "evaluations":
            self._record_errors(launched.batch, values)
            rest = values[len(launched.batch) :]
            for (image, prompt, draw), error in _pairs(launched.foreseen, rest):
                image.foreseen[prompt, draw] = error
        else:
            _record_looks(launched.batch, values)
        now = time.perf_counter()
        share = (now - max(launched.began, self._last)) / len(launched.batch)
        self._last = now
        complete = []
        for image, *_ in launched.batch:
            image.seconds += share
            image.waiting -= 1
            if image.waiting == 0:
                complete.append(image)
        return complete

    def _halve(self, error: RuntimeError) -> None:
        size = self.scorer.batch_size
        if size == 1:
            raise ModelError(
                "out of memory for a single evaluation",
                given=str(error).splitlines()[0],
                todo="choose --dtype float16, a smaller --img-size or another device",
            ) from error
        self.scorer.batch_size = size // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning("out of memory at batches of %d: going on with %d", size, size // 2)

    def _measure(self, kind: str) -> Callable[[list[Any]], Tensor]:
        return self._errors if kind == "evaluations" else self._looks

    def _errors(self, batch: list[Request]) -> Tensor:
        """(M,) errors, on the device."""
        images, rows, draws = zip(*batch, strict=True)
        x0 = torch.stack([image.x0 for image in images])
        return self.scorer.errors(x0, torch.tensor(rows), draws)

    def _looks(self, batch: list[LookRequest]) -> Tensor:
        """(M, K) first-order errors, or (M, 1) errors of the points, on the device."""
        assert self.points is not None
        x0 = torch.stack([image.x0 for image, _, _ in batch])
        at = self.points.at([look.members for _, _, look in batch])
        draws = [look.draw for _, _, look in batch]
        if not batch[0][2].slopes:
            return self.scorer.errors_at(x0, at, draws)[:, None]
        errors, gradients = self.scorer.slopes(x0, at, draws)
        return self.points.first_order(errors, gradients, at)

    def _finite(self, launched: Launched) -> Tensor:
        """(M, ...) on the CPU; rows that are not finite are tried once more in single precision."""
        batch, denoiser = launched.batch, self.scorer.denoiser
        values = launched.values.cpu().clone()  # what inference made is not to be written to
        # of those that were asked for: what was foreseen is asked for once more where it is bad
        rows = torch.isfinite(values[: len(batch)]).reshape(len(batch), -1).all(dim=1)
        bad = rows.logical_not().nonzero().flatten()
        if len(bad) and denoiser.dtype != torch.float32:
            with denoiser.float32():
                # batches may have become smaller since this one was launched
                for part in bad.split(self.scorer.batch_size):
                    again = self._measure(launched.kind)([batch[int(i)] for i in part])
                    values[part] = again.cpu()
        return values

    def _record_errors(self, batch: list[Request], values: Tensor) -> None:
        for (image, row, draw), error in _pairs(batch, values):
            if not np.isfinite(error):
                prompts = image.question.prompts.prompts
                image.error = (
                    f"noise prediction of {image.image_id} is not finite, in single precision too, "
                    f"for prompt {[*prompts, ''][row]!r}, draw {draw}"
                )
            image.record(row, draw, error)


def foresee(batch: Sequence[Request], free: int) -> list[Request]:
    """What the images of a batch will ask for next, as much as there are rows for.

    A draw of every image first, then the next draw: the further ahead, the likelier in vain.
    """
    found: list[Request] = []
    images = list({id(image): image for image, _, _ in batch}.values())
    for of_each in zip_longest(*(image.likely_next() for image in images), fillvalue=()):
        found.extend(request for requests in of_each for request in requests)
        if len(found) >= free:
            break
    return found[:free]


def _pairs(batch: Sequence[Request], values: Tensor) -> Iterator[tuple[Request, float]]:
    return zip(batch, values[: len(batch)].tolist(), strict=True)


def _record_looks(batch: list[LookRequest], values: Tensor) -> None:
    for (image, place, look), shown in zip(batch, values.numpy(), strict=True):
        if not np.isfinite(shown).all():
            image.error = (
                f"the screen of {image.image_id} is not finite, in single precision too, "
                f"draw {look.draw}"
            )
        image.shown[place] = shown if look.slopes else shown[0]
        image.evaluations += look.evaluations


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device has no memory left."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory")
    )


def largest_worthwhile(
    seconds: Callable[[int], float], start: int = 16, most: int = 1024, gain: float = 0.05
) -> int:
    """Rows of a batch: doubled as long as rows a second grow by that much and memory lasts.

    Args:
        seconds: rows -> time of one batch of so many; may raise what `is_out_of_memory` knows.
        start, most: rows to begin and to end with; where there is no memory for the first, half as
            many, and so on.
        gain: least growth of rows a second that is worth twice the memory.

    Raises:
        RuntimeError: where there is no memory for one row, or anything else goes wrong.
    """
    size, best, rate = start, 0, 0.0
    while size <= most:
        try:
            found = size / seconds(size)
        except RuntimeError as error:
            if not is_out_of_memory(error) or (size == 1 and not best):
                raise
            if best:
                break
            size, most = size // 2, size // 2
            continue
        if found < (1 + gain) * rate:
            break
        best, rate, size = size, found, 2 * size
    return best
