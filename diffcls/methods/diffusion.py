"""The diffusion classifier: the class whose prompt explains the noise best.

p(c | x0) ∝ exp(−E_{t,ε} ‖ε − ε_θ(α_t·x0 + σ_t·ε, t, c)‖²)      (Li et al. 2023, eq. 5)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.allocation import EVEN, allocate
from diffcls.data.dataset import Item
from diffcls.denoiser import Denoiser
from diffcls.draws import DrawPlan
from diffcls.errors import DataError, UsageError, unknown_name
from diffcls.method import ClassScores
from diffcls.methods.in_flight import InFlight, Question, Request
from diffcls.models.check import check_model
from diffcls.prompts import AGGREGATES, PromptSet
from diffcls.scorer import Scorer, Scoring
from diffcls.screens.points import Points
from diffcls.screens.screen import Begin, Look, Screened
from diffcls.search.table import Search
from diffcls.search.votes import VOTES
from diffcls.transforms import load_image, to_pixels

LookRequest = tuple[InFlight, int, Look]
"""(image, place among its looks, look)."""


class DiffusionMethod:
    """Scores images against prompts; many images share every batch.

    Where images have candidates of their own (`PromptSet.asked`), each is scored against these
    alone, and the error of the empty prompt on the same draws is taken off all its scores: so the
    scores of one text on different images can be compared as well.

    Args:
        denoiser: the model.
        prompts: candidate classes.
        search: which (class, draw) pairs to evaluate.
        scoring: loss and weighting.
        seed: keys the noise.
        batch_size: rows of every forward of the denoiser.
        encode_batch: rows of every forward of the image encoder.
        noise_path: see `diffcls.draws.DrawPlan`.
        keep_errors: hand each image's error table out with its scores.
        interpolation: of the resize, see `diffcls.transforms.to_pixels`.
        aggregate: ``classes``: the errors of a class's prompts are averaged, then classes are
            searched; ``prompts``: prompts are searched, as in the published script, and a class
            scores what its best prompt does.
        vote: how the draws come to one answer, see `diffcls.search.votes`.
        allocation: where in time the draws lie, see `diffcls.allocation`.
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
        interpolation: str = "bicubic",
        aggregate: str = "classes",
        vote: str = "mean",
        allocation: str = EVEN,
    ) -> None:
        if aggregate not in AGGREGATES:
            raise unknown_name("aggregate", aggregate, AGGREGATES)
        if aggregate == "prompts" and prompts.asked:
            raise UsageError("prompts cannot race where images have candidates of their own")
        if vote not in VOTES:
            raise unknown_name("vote", vote, VOTES)
        self.denoiser, self.prompts, self.search = denoiser, prompts, search
        self.encode_batch = encode_batch
        schedule = denoiser.schedule
        indices = allocate(search.plan(len(schedule)), allocation, schedule)
        self.plan = DrawPlan(indices, seed, noise_path)
        # the empty prompt, where there is one, comes last
        texts = [*prompts.prompts, *([""] if prompts.asked else [])]
        cond = denoiser.encode_prompts(texts)
        self.scorer = Scorer(denoiser, cond, self.plan, scoring, batch_size)
        self.interpolation = interpolation
        prompts_race = aggregate == "prompts" and len(prompts) > prompts.n_classes
        self._first_row = [prompts.rows_of(k)[0] for k in range(prompts.n_classes)]
        # scores are means over dimensions: the posterior sums them, then cools them down
        dimensions = float(np.prod(denoiser.sample_shape))
        self.likelihood_scale = dimensions / denoiser.card.temperature
        # ranks and votes are no log-likelihoods
        self.posterior_scale = self.likelihood_scale if vote == "mean" else None
        self.question = Question(
            prompts,
            search,
            VOTES[vote],
            prompts_race,
            subtract_empty=bool(prompts.asked) and vote == "mean",
            keep_errors=keep_errors,
        )
        self._begin, self._points = self._prepare_screen(aggregate)

    def _prepare_screen(self, aggregate: str) -> tuple[Begin | None, Points | None]:
        """Where the search has a screen, how that begins on an image, and the points it looks at.

        Raises:
            UsageError: for prompts that a screen cannot be asked about.
        """
        if not isinstance(self.search, Screened):
            return None, None
        if aggregate == "prompts" or self.prompts.asked:
            raise UsageError(
                "a screen needs classes that all images share",
                given="prompts that race" if aggregate == "prompts" else "candidates of an image",
                todo="choose --search racing",
            )
        begin = self.search.prepare(self.prompts, self.scorer.cond)
        return begin, Points(self.prompts, self.scorer.cond)

    @property
    def batch_size(self) -> int:
        """Rows of every forward of the denoiser."""
        return self.scorer.batch_size

    @batch_size.setter
    def batch_size(self, rows: int) -> None:
        self.scorer.batch_size = rows

    def seconds_a_batch(self) -> float:
        """Time of one full forward of the denoiser, measured now."""
        rows = range(self.batch_size)
        x0 = torch.zeros(self.batch_size, *self.denoiser.sample_shape)
        prompts = torch.tensor([row % len(self.prompts) for row in rows])
        draws = [row % len(self.plan) for row in rows]
        began = 0.0
        for _ in range(2):  # the first one warms up
            began = time.perf_counter()
            self.scorer.errors(x0, prompts, draws).cpu()  # on the CPU: it waits for the accelerator
        return time.perf_counter() - began

    def check(self, items: Sequence[Item]) -> None:
        """See `diffcls.models.check.check_model`; images that cannot be read are passed over."""
        readable: list[tuple[NDArray[np.float32], str]] = []
        for item in items:
            with suppress(
                DataError, OSError, ValueError
            ):  # it will be recorded when its turn comes
                prompt = self.prompts.prompts[self._first_row[item.class_index]]
                readable.append((self._pixels(item), prompt))
        if len(readable) > 1:
            pixels, prompts = zip(*readable, strict=True)
            check_model(self.denoiser, torch.from_numpy(np.stack(pixels)), prompts)

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """The answer for each image, in order of completion (see `diffcls.method.Method`)."""
        stream = iter(items)
        queues = _Queues()
        exhausted = False
        while True:
            # admit images until a full batch waits, and no more: memory stays bounded
            while not queues.full(self.batch_size) and not exhausted:
                started, failed = self._admit(stream)
                exhausted = not started and not failed
                yield from failed
                for image in started:
                    yield from self._go_on(image, queues)
            if not queues:
                return
            for image in self._run_batch(queues):
                yield from self._go_on(image, queues)

    def _go_on(self, image: InFlight, queues: _Queues) -> Iterator[ClassScores]:
        """Queue what an image wants next; its answer where it wants nothing more."""
        if image.error is None:
            queues.add(*image.ask())
        if not image.waiting:
            yield image.answer()

    def _admit(self, stream: Iterator[Item]) -> tuple[list[InFlight], list[ClassScores]]:
        """Read and encode the next images; both lists are empty when the stream is at its end."""
        began = time.perf_counter()
        items: list[Item] = []
        pixels: list[NDArray[np.float32]] = []
        failed: list[ClassScores] = []
        for item in stream:
            if len(item.candidates) != self.prompts.asked:
                raise UsageError(
                    f"the prompts are not for images of {len(item.candidates)} candidates of "
                    "their own",
                    given=item.image_id,
                    allowed=f"{self.prompts.asked} candidates, 0 for all classes",
                )
            try:
                pixels.append(self._pixels(item))
                items.append(item)
            except (DataError, OSError, ValueError) as error:
                failed.append(ClassScores.failed(item.image_id, f"{error}"))
            if self.encode_batch in (len(items), len(failed)):
                break
        if not items:
            return [], failed
        # padded to one shape with the last image, so that a latent does not depend on its company
        padded = pixels + pixels[-1:] * (self.encode_batch - len(pixels))
        latents = self.denoiser.encode_images(torch.from_numpy(np.stack(padded)))
        share = (time.perf_counter() - began) / len(items)
        started = []
        for item, x0 in zip(items, latents, strict=False):
            if bool(torch.isfinite(x0).all()):
                started.append(self._start(item, x0, share))
            else:
                what = f"image encoding of {item.image_id} is not finite, in single precision"
                failed.append(ClassScores.failed(item.image_id, what, share))
        return started, failed

    def _start(self, item: Item, x0: Tensor, seconds: float) -> InFlight:
        shape = (len(self.prompts) + bool(self.prompts.asked), len(self.plan))
        table = np.full(shape, np.nan, np.float32)
        narrowing = self._begin(item.open) if self._begin else None
        return InFlight(
            item.image_id, item.candidates, x0, table, self.question, narrowing, seconds
        )

    def _run_batch(self, queues: _Queues) -> list[InFlight]:
        """Evaluate one batch; returns the images of which nothing is out any more."""
        began = time.perf_counter()
        kind, batch = queues.take(self.batch_size)
        images = [request[0] for request in batch]
        if kind == "evaluations":
            self._evaluate(batch)
        else:
            self._look(batch)
        share = (time.perf_counter() - began) / len(batch)
        complete = []
        for image in images:
            image.seconds += share
            image.waiting -= 1
            if image.waiting == 0:
                complete.append(image)
        return complete

    def _evaluate(self, batch: list[Request]) -> None:
        """One error each into the images' tables."""

        def measure(part: list[Request]) -> Tensor:
            images, rows, draws = zip(*part, strict=True)
            x0 = torch.stack([image.x0 for image in images])
            return self.scorer.errors(x0, torch.tensor(rows), draws).cpu()

        errors = self._finite(batch, measure)
        for (image, row, draw), error in zip(batch, errors.tolist(), strict=True):
            if not np.isfinite(error):
                image.error = (
                    f"noise prediction of {image.image_id} is not finite, in single precision too, "
                    f"for prompt {self.prompts.prompts[row]!r}, draw {draw}"
                )
            image.table[row, draw] = error
            image.evaluations += 1

    def _look(self, batch: list[LookRequest]) -> None:
        """The answers to looks, all of one kind."""
        assert self._points is not None
        points = self._points

        def measure(part: list[LookRequest]) -> Tensor:
            x0 = torch.stack([image.x0 for image, _, _ in part])
            at = points.at([look.members for _, _, look in part])
            draws = [look.draw for _, _, look in part]
            if not part[0][2].slopes:
                return self.scorer.errors_at(x0, at, draws)[:, None].cpu()
            errors, gradients = self.scorer.slopes(x0, at, draws)
            return points.first_order(errors, gradients, at).cpu()

        shown = self._finite(batch, measure).numpy()
        for (image, place, look), values in zip(batch, shown, strict=True):
            if not np.isfinite(values).all():
                image.error = (
                    f"the screen of {image.image_id} is not finite, in single precision too, "
                    f"draw {look.draw}"
                )
            image.shown[place] = values if look.slopes else values[0]
            image.evaluations += look.evaluations

    def _finite(self, batch: list[Any], measure: Callable[[list[Any]], Tensor]) -> Tensor:
        """(M, ...) values; rows that are not finite are tried once more in single precision."""
        values = measure(batch).clone()  # what inference made is not to be written to
        rows = torch.isfinite(values).reshape(len(batch), -1).all(dim=1)
        bad = rows.logical_not().nonzero().flatten()
        if len(bad) and self.denoiser.dtype != torch.float32:
            with self.denoiser.float32():
                values[bad] = measure([batch[int(i)] for i in bad])
        return values

    def _pixels(self, item: Item) -> NDArray[np.float32]:
        return to_pixels(load_image(item.open()), self.denoiser.image_size, self.interpolation)


class _Queues:
    """What waits to be evaluated: a batch is of one kind, and taken in order."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Any]] = {
            kind: deque() for kind in ("evaluations", "points", "slopes")
        }

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, requests: list[Request], looks: list[LookRequest]) -> None:
        self._waiting["evaluations"].extend(requests)
        for look in looks:
            self._waiting["slopes" if look[2].slopes else "points"].append(look)

    def full(self, size: int) -> bool:
        """Whether a full batch of one kind waits."""
        return max(map(len, self._waiting.values())) >= size

    def take(self, size: int) -> tuple[str, list[Any]]:
        """The kind of which most waits, and a batch of it."""
        kind = max(self._waiting, key=lambda name: len(self._waiting[name]))
        queue = self._waiting[kind]
        return kind, [queue.popleft() for _ in range(min(size, len(queue)))]
