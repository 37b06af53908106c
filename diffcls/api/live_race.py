"""Live race: the states of the search on one image, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcls.api.image_openers import Opener
from diffcls.api.image_scores import prediction, rows_of_method
from diffcls.api.prediction_stream import Prediction
from diffcls.data.dataset import Item
from diffcls.metrics.calibration import posterior
from diffcls.support.errors import DataError, ModelError

if TYPE_CHECKING:
    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.scoring.search_state import SearchState


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class RaceState:
    """The search on one image, so far.

    Args:
        labels: (K,) the candidate labels, in the order of the call; the arrays follow it.
        posterior: (K,) probabilities that sum to 1; equal before the first draw.
        differences: (K,) how far each score is behind the best one: the mean paired difference of
            the errors on common draws, at least 0.
        draws: (K,) evaluated (timestep, noise) draws of each label.
        alive: (K,) whether a label still competes; at the end, whether nothing separates it from
            the best one.
        prediction: ``[{"label": text, "score": p}, …]``, best first, as a call returns it.
        evaluations: forward passes of the model so far.
        seconds: time spent on the image so far.
        finished: whether this is the last state.
        scale: nats per unit of a score: ``scale * differences`` are the log odds of the best label
            over each other one.
    """

    labels: tuple[str, ...]
    posterior: NDArray[np.float64]
    differences: NDArray[np.float64]
    draws: NDArray[np.int64]
    alive: NDArray[np.bool_]
    prediction: Prediction
    evaluations: int
    seconds: float
    finished: bool
    scale: float

    @property
    def eliminated(self) -> list[tuple[str, int]]:
        """Labels that have dropped out, each with its last draw; the first to drop out first."""
        out = [k for k in range(len(self.labels)) if not self.alive[k]]
        out.sort(key=lambda k: (int(self.draws[k]), -float(self.differences[k])))
        return [(self.labels[k], int(self.draws[k])) for k in out]


def race(
    method: DiffusionMethod,
    open_image: Opener,
    batch_size: int | None,
    lock: AbstractContextManager[Any],
    current: Callable[[], object],
) -> Generator[RaceState]:
    """The states of the search on one image.

    Args:
        method: the method.
        open_image: opens the image.
        batch_size: rows of every forward pass, if they are not the method's.
        lock: held while a state is computed, and free between two states, so that other threads
            score their images in between; a thread may take it twice.
        current: the classifier's model at that time.

    Raises:
        DataError: for an image that cannot be scored.
        ModelError: if the model was moved or replaced in between.
    """
    states = method.race(Item("0", 0, open_image))
    with closing(states):
        while True:
            with lock, rows_of_method(method, batch_size):
                if current() is not method.denoiser:
                    todo = "start the race again"
                    raise ModelError("the model was moved or changed during a race", todo=todo)
                state = _next(states)
            if state is None:
                return
            yield _labelled(method, state)


def _next(states: Generator[SearchState]) -> SearchState | None:
    try:
        return next(states, None)
    except DataError as error:
        text = str(error)
        if text.startswith("image"):  # of its opener, which names it already
            raise
        raise DataError(f"image cannot be scored: {text}") from None


def _labelled(method: DiffusionMethod, state: SearchState) -> RaceState:
    return RaceState(
        labels=method.prompts.class_names,
        posterior=posterior(state.scores, method.likelihood_scale),
        differences=state.scores.max() - state.scores,
        draws=state.draws,
        alive=state.alive,
        prediction=prediction(method, state),
        evaluations=state.evaluations,
        seconds=state.seconds,
        finished=state.finished,
        scale=method.likelihood_scale,
    )
