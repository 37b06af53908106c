"""The diffusion classifier: the class whose prompt explains the noise best.

p(c | x0) ∝ exp(−E_{t,ε} ‖ε − ε_θ(α_t·x0 + σ_t·ε, t, c)‖²)      (Li et al. 2023, eq. 5)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.data.dataset import Item
from diffcls.denoiser import Denoiser
from diffcls.draws import DrawPlan
from diffcls.errors import DataError, UsageError, unknown_name
from diffcls.method import ClassScores
from diffcls.models.check import check_model
from diffcls.prompts import AGGREGATES, PromptSet
from diffcls.scorer import Scorer, Scoring
from diffcls.search.table import Search, leader, means, scores
from diffcls.search.votes import VOTES
from diffcls.transforms import load_image, to_pixels


@dataclass
class _InFlight:
    """An image being scored: its latent, its table of prompt errors, and what is still out."""

    image_id: str
    candidates: tuple[int, ...]
    x0: Tensor  # (C, h, w)
    table: NDArray[np.float32]  # (P, N), or (P + 1, N) with the empty prompt
    waiting: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    error: str | None = None


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
    ) -> None:
        if aggregate not in AGGREGATES:
            raise unknown_name("aggregate", aggregate, AGGREGATES)
        if aggregate == "prompts" and prompts.asked:
            raise UsageError("prompts cannot race where images have candidates of their own")
        if vote not in VOTES:
            raise unknown_name("vote", vote, VOTES)
        self.denoiser, self.prompts, self.search = denoiser, prompts, search
        self.vote = VOTES[vote]
        self.keep_errors = keep_errors
        self.encode_batch = encode_batch
        self.plan = DrawPlan(search.plan(len(denoiser.schedule)), seed, noise_path)
        # the empty prompt, where there is one, comes last
        texts = [*prompts.prompts, *([""] if prompts.asked else [])]
        cond = denoiser.encode_prompts(texts)
        self.scorer = Scorer(denoiser, cond, self.plan, scoring, batch_size)
        self.interpolation = interpolation
        self._prompts_race = aggregate == "prompts" and len(prompts) > prompts.n_classes
        # the prompts to evaluate for each row of the table that the search sees
        self._rows_of = (
            [[row] for row in range(len(prompts))]
            if self._prompts_race
            else [prompts.rows_of(k) for k in range(prompts.n_classes)]
        )
        self._first_row = [prompts.rows_of(k)[0] for k in range(prompts.n_classes)]
        # scores are means over dimensions: the posterior sums them, then cools them down
        dimensions = float(np.prod(denoiser.sample_shape))
        self.likelihood_scale = dimensions / denoiser.card.temperature
        # ranks and votes are no log-likelihoods
        self.posterior_scale = self.likelihood_scale if vote == "mean" else None

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
        queue: deque[tuple[_InFlight, int, int]] = deque()
        exhausted = False
        while True:
            # admit images until a full batch waits, and no more: memory stays bounded
            while len(queue) < self.scorer.batch_size and not exhausted:
                started, failed = self._admit(stream)
                exhausted = not started and not failed
                yield from failed
                for image in started:
                    self._ask(image, queue)
            if not queue:
                return
            count = min(len(queue), self.scorer.batch_size)
            yield from self._score([queue.popleft() for _ in range(count)], queue)

    def _admit(self, stream: Iterator[Item]) -> tuple[list[_InFlight], list[ClassScores]]:
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
        shape = (len(self.prompts) + bool(self.prompts.asked), len(self.plan))
        started = []
        for item, x0 in zip(items, latents, strict=False):
            if bool(torch.isfinite(x0).all()):
                table = np.full(shape, np.nan, np.float32)
                started.append(_InFlight(item.image_id, item.candidates, x0, table, seconds=share))
            else:
                what = f"image encoding of {item.image_id} is not finite, in single precision"
                failed.append(ClassScores.failed(item.image_id, what, share))
        return started, failed

    def _ask(self, image: _InFlight, queue: deque[tuple[_InFlight, int, int]]) -> bool:
        """Queue what the search wants next of an image; False when it wants nothing more."""
        wanted = self.search.ask(self._seen(image))
        if wanted is None:
            requests = self._empty_prompt(image)
        else:
            requests = [
                (row, draw)
                for k, draw in wanted.tolist()
                for row in self._rows_of[image.candidates[k] if image.candidates else k]
            ]
        queue.extend((image, row, draw) for row, draw in requests)
        image.waiting += len(requests)
        return bool(requests)

    def _empty_prompt(self, image: _InFlight) -> list[tuple[int, int]]:
        """The draws of the leader that the empty prompt, where there is one, still lacks."""
        if not image.candidates:
            return []
        table = self._seen(image)
        missing = np.isnan(image.table[-1]) & ~np.isnan(table[leader(table)])
        return [(len(self.prompts), int(draw)) for draw in np.flatnonzero(missing)]

    def _score(
        self,
        batch: list[tuple[_InFlight, int, int]],
        queue: deque[tuple[_InFlight, int, int]],
    ) -> Iterator[ClassScores]:
        """Evaluate one batch; yields the images that it completes."""
        began = time.perf_counter()
        errors = self._errors(batch)
        share = (time.perf_counter() - began) / len(batch)
        complete: list[_InFlight] = []
        for (image, row, draw), error in zip(batch, errors.tolist(), strict=True):
            if not np.isfinite(error):
                image.error = (
                    f"noise prediction of {image.image_id} is not finite, in single precision too, "
                    f"for prompt {self.prompts.prompts[row]!r}, draw {draw}"
                )
            image.table[row, draw] = error
            image.waiting -= 1
            image.evaluations += 1
            image.seconds += share
            if image.waiting == 0:
                complete.append(image)
        for image in complete:
            # a value that is not finite never takes part in a comparison
            if image.error is not None:
                yield ClassScores.failed(image.image_id, image.error, image.seconds)
            elif not self._ask(image, queue):
                yield self._finish(image)

    def _errors(self, batch: list[tuple[_InFlight, int, int]]) -> Tensor:
        """(M,) errors on the CPU; what is not finite is tried once more in single precision."""

        def measure(part: list[tuple[_InFlight, int, int]]) -> Tensor:
            images, rows, draws = zip(*part, strict=True)
            x0 = torch.stack([image.x0 for image in images])
            return self.scorer.errors(x0, torch.tensor(rows), draws).cpu()

        errors = measure(batch).clone()  # what inference made is not to be written to
        bad = torch.isfinite(errors).logical_not().nonzero().flatten()
        if len(bad) and self.denoiser.dtype != torch.float32:
            with self.denoiser.float32():
                errors[bad] = measure([batch[int(i)] for i in bad])
        return errors

    def _pixels(self, item: Item) -> NDArray[np.float32]:
        return to_pixels(load_image(item.open()), self.denoiser.image_size, self.interpolation)

    def _seen(self, image: _InFlight) -> NDArray[np.float32]:
        """The table that the search works on: a row a class, or a row a prompt where these race."""
        return self.vote(image.table if self._prompts_race else self._classes_only(image))

    def _finish(self, image: _InFlight) -> ClassScores:
        table = self._seen(image)
        of_row, ranking = scores(table), self.search.rank(table)
        if self._prompts_race:
            of_class = np.array(self.prompts.class_of)
            best = np.full(self.prompts.n_classes, -np.inf)
            np.maximum.at(best, of_class, of_row)
            # classes in the order of their best prompt
            of_row, ranking = best, np.array(list(dict.fromkeys(of_class[ranking].tolist())))
        if image.candidates and self.posterior_scale is not None:
            of_row = of_row + float(means(image.table[-1:])[0])
        return ClassScores(
            image.image_id,
            of_row,
            ranking,
            image.evaluations,
            image.seconds,
            errors=self._classes_only(image) if self.keep_errors else None,
        )

    def _classes_only(self, image: _InFlight) -> NDArray[np.float32]:
        """(K, N) errors of the classes that the image was asked about."""
        table = self.prompts.average(image.table[: len(self.prompts)])
        return table[list(image.candidates)] if image.candidates else table
