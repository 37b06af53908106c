"""Scores and predictions of images by a classification method, for the Python call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.api.image_openers import Opener, opener
from diffcls.api.prediction_stream import Prediction
from diffcls.api.remote_images import WebAccess
from diffcls.data.dataset import Item
from diffcls.metrics.calibration import posterior
from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.scoring.class_scores import ClassScores
    from diffcls.scoring.search_state import SearchState

Decision = tuple["DiffusionMethod", Callable[["ClassScores"], Prediction]]
"""A method of classification, and its function from the scores of an image to the prediction."""


def classified(
    method: DiffusionMethod,
    openers: Sequence[Opener],
    batch_size: int | None,
    lock: AbstractContextManager[Any],
) -> list[ClassScores]:
    """The scores of images, or the errors of those that cannot be scored, in order.

    Args:
        method: the method; its caches serve one stream of images at a time.
        openers: one function for each image.
        batch_size: rows of every forward pass, if they are not the method's.
        lock: held while images are scored; a thread may take it twice.
    """
    items = [Item(str(i), 0, open_image) for i, open_image in enumerate(openers)]
    with lock, rows_of_method(method, batch_size):
        by_id = {result.image_id: result for result in method.classify(items)}
    return [by_id[item.image_id] for item in items]


def score_chunk(
    decide: Callable[[], Decision],
    access: WebAccess,
    batch_size: int | None,
    lock: AbstractContextManager[Any],
    images: Sequence[Any],
    first: int,
) -> Iterator[Prediction]:
    """The predictions of images of a stream, up to the first one that cannot be scored.

    Args:
        decide: the method, and its function from the scores of an image to the prediction; called
            with the lock held.
        batch_size, lock: see `classified`.
        access: limits for images from the web.
        images: the images, scored before this function returns.
        first: index of the first image in the stream.
    """
    openers = [partial(_open, image, first + i, access) for i, image in enumerate(images)]
    with lock:
        method, predict = decide()
        results = classified(method, openers, batch_size, lock)
    return (predict(checked(one, first + i)) for i, one in enumerate(results))


def checked(result: ClassScores, index: int) -> ClassScores:
    """The result of an image.

    Raises:
        DataError: if it could not be scored.
    """
    if result.error is None:
        return result
    if result.error.startswith(f"image {index}"):  # of its opener, which names it already
        raise DataError(result.error)
    raise DataError(f"image {index} cannot be scored: {result.error}")


def prediction(method: DiffusionMethod, result: ClassScores | SearchState) -> Prediction:
    """The labels of an image with their probabilities, best first."""
    p, labels = posterior(result.scores, method.likelihood_scale), method.prompts.class_names
    return [{"label": labels[k], "score": float(p[k])} for k in result.ranking]


def score_matrix(results: Sequence[ClassScores]) -> np.ndarray:
    """(n, K) scores of n results."""
    return np.stack([result.scores for result in results])


def _open(image: Any, index: int, access: WebAccess) -> Image.Image:
    return opener(image, f"image {index}", access)()


@contextmanager
def rows_of_method(method: DiffusionMethod, batch_size: int | None) -> Iterator[None]:
    """Context in which forward passes have another number of rows."""
    own = method.batch_size
    method.batch_size = batch_size or own
    try:
        yield
    finally:
        if batch_size is not None:
            method.batch_size = own
