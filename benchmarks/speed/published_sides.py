"""The published script and diffcls on the same model, images and prompts, each with its own clock.

The script is the checkout's `eval_prob_adaptive.py`, whose functions run unmodified. Around them,
it departs from its own `main` as follows, so that it runs on a CPU with a model of another scale:

- The pipeline is loaded by diffusers from the same folder, in float32, without xformers.
- Latents have the scale of the model's own config, in place of 0.18215.
- A model of the v-prediction is converted to the ε-prediction that the script expects; the time of
  that conversion is subtracted.
- The noise is that of diffcls (as from ``--noise_path``, which the script's main does not reach),
  so that both compute the same errors.
- No progress bar is printed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diffcls.support.environment import denormals_flushed
from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffcls.data.dataset import Item

PUBLISHED_BATCH = 32
"""The script's default ``--batch_size``."""


@dataclass(frozen=True)
class Lap:
    """One turn of a side: wall-clock and CPU time of the process, in seconds."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Lap) -> Lap:
        return Lap(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __sub__(self, other: Lap) -> Lap:
        return Lap(self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)


def now() -> Lap:
    """The current readings of both clocks."""
    return Lap(time.perf_counter(), time.process_time())


@dataclass
class Answer:
    """The result of one image.

    Args:
        prediction: index of the class.
        evaluations: passes of the network.
        errors: class -> its errors in the order of the draws; empty if they are not compared.
    """

    prediction: int
    evaluations: int
    errors: dict[int, NDArray[np.float32]] = field(default_factory=dict)


class Side(Protocol):
    """One of the procedures that take turns.

    Args:
        answers: image id -> result.
        laps: one per turn.
        images_per_turn: images per turn.
    """

    answers: dict[str, Answer]
    laps: list[Lap]
    images_per_turn: int

    def warm_up(self, image: Item) -> None:
        """What a first pass would have to pay for, on an image that is not timed."""

    def turn(self) -> None:
        """Score the images of one turn, and append the time that they took."""


class NoisePrediction:
    """A U-Net of diffusers whose output is the predicted noise, whatever it was trained for.

    v = α·ε − σ·x0 and x_t = α·x0 + σ·ε give ε = α·v + σ·x_t (Salimans & Ho 2022).

    Args:
        unet: the network.
        scheduler: with its ``alphas_cumprod`` and ``prediction_type``.

    Raises:
        ModelError: for another prediction type.
    """

    def __init__(self, unet: Any, scheduler: Any) -> None:
        kind = scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ModelError("prediction type", given=kind, allowed="epsilon or v_prediction")
        self._unet, self._scheduler, self._converts = unet, scheduler, kind == "v_prediction"
        self.spent = Lap()

    def __call__(self, x_t: Any, timestep: Any, encoder_hidden_states: Any) -> Any:
        out = self._unet(x_t, timestep, encoder_hidden_states=encoder_hidden_states)
        if not self._converts:
            return out
        began = now()
        squared = self._scheduler.alphas_cumprod[timestep].view(-1, 1, 1, 1)
        noise = squared.sqrt() * out.sample + (1 - squared).sqrt() * x_t
        self.spent += now() - began
        return SimpleNamespace(sample=noise)


class PublishedSide:
    """The published script: one image per turn.

    Args:
        script: the checkout's module.
        method: our method with ``--search paper``, for its model, prompts, stages, loss and noise.
        images: the images in order, one per turn.
    """

    images_per_turn = 1

    def __init__(self, script: ModuleType, method: Any, images: Sequence[Item]) -> None:
        import torch

        self.answers: dict[str, Answer] = {}
        self.laps: list[Lap] = []
        self._script, self._images = script, iter(images)
        denoiser = method.denoiser
        pipeline, scheduler = _pipeline(denoiser)
        self._vae, self._scale = pipeline.vae, pipeline.vae.config.scaling_factor
        self._network, self._scheduler = NoisePrediction(pipeline.unet, scheduler), scheduler
        self._transform = script.get_transform(size=denoiser.image_size)
        draws = range(len(method.plan))
        self._noise = torch.stack([method.scorer.noise[j] for j in draws])
        self._arguments = SimpleNamespace(
            version="2-0",
            n_samples=method.search.samples,
            to_keep=method.search.keep,
            n_trials=1,
            batch_size=PUBLISHED_BATCH,
            dtype="float32",
            loss=method.scorer.scoring.loss,
        )
        tokenizer = pipeline.tokenizer
        tokens = tokenizer(
            list(method.prompts.prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            self._text = pipeline.text_encoder(tokens.input_ids)[0]

    def warm_up(self, image: Item) -> None:
        """One batch of the network, which is not timed."""
        x0 = self._encode(image)
        rows = list(range(PUBLISHED_BATCH))
        prompts = [row % len(self._text) for row in rows]
        draws = [row % len(self._noise) for row in rows]
        arguments = (rows, draws, self._text, prompts, PUBLISHED_BATCH)
        self._script.eval_error(self._network, self._scheduler, x0, self._noise, *arguments)

    def turn(self) -> None:
        image = next(self._images)
        spent, began = self._network.spent, now()
        x0 = self._encode(image)
        prediction, data = self._script.eval_prob_adaptive(
            self._network,
            x0,
            self._text,
            self._scheduler,
            self._arguments,
            x0.shape[-1],
            self._noise,
        )
        self.laps.append(now() - began - (self._network.spent - spent))
        errors = {k: one["pred_errors"].numpy() for k, one in data.items()}
        self.answers[image.image_id] = Answer(prediction, sum(map(len, errors.values())), errors)

    def _encode(self, image: Item) -> Any:
        """(1, C, h, w): the lines of the script's loop between an image and its latent."""
        import torch

        pixels = self._transform(image.open())
        with torch.no_grad():
            x0 = self._vae.encode(pixels.unsqueeze(0)).latent_dist.mean
            x0 *= self._scale
        return x0


class OurSide:
    """One run of diffcls over a stream of images, whose clock stops between its turns.

    Args:
        method: our method.
        images: the images in order.
        images_per_turn: results per turn; the images in flight at its end are finished later.
        keep_errors: return the error tables, to compare them.
    """

    def __init__(
        self, method: Any, images: Sequence[Item], images_per_turn: int, keep_errors: bool = False
    ) -> None:
        self.answers: dict[str, Answer] = {}
        self.laps: list[Lap] = []
        self.images_per_turn = images_per_turn
        self._method, self._keep_errors = method, keep_errors
        method.task = replace(method.task, keep_errors=keep_errors)
        self._results = method.classify(images)

    def warm_up(self, image: Item) -> None:
        """One batch and, where a search has a screen, one image, which also fits it; not timed."""
        with denormals_flushed():
            self._method.seconds_per_batch()
            if self._method.search.screen is not None:
                list(self._method.classify([image]))

    def turn(self) -> None:
        with denormals_flushed():
            began = now()
            results = list(islice(self._results, self.images_per_turn))
            self.laps.append(now() - began)
        for scores in results:
            if scores.error is not None:
                raise ModelError(f"an image was not scored: {scores.error}")
            table = scores.errors if self._keep_errors else ()
            errors = {k: row[~np.isnan(row)] for k, row in enumerate(table)}
            self.answers[scores.image_id] = Answer(
                int(scores.ranking[0]), scores.evaluations, errors
            )

    def close(self) -> None:
        """End the stream."""
        self._results.close()


def take_turns(sides: Sequence[Side], rounds: int) -> None:
    """All sides once per round, in an order that is reversed from round to round."""
    for number in range(rounds):
        for side in reversed(sides) if number % 2 else sides:
            side.turn()


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one CPU core, where the system allows it.

    The prefetch thread of diffcls has no second core then, as the published script has none.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _pipeline(denoiser: Any) -> tuple[Any, Any]:
    """The model's own pipeline as diffusers loads it, with the scheduler of the script."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    from diffcls.models import loading
    from diffcls.models.quiet import quiet

    with quiet():
        pipeline = StableDiffusionPipeline.from_pretrained(
            loading.find(denoiser.card.name).path, safety_checker=None
        )
    return pipeline, EulerDiscreteScheduler.from_config(dict(pipeline.scheduler.config))
