"""Predictions of a stream of images: computed as they are requested, with a bounded look-ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from diffcls.api.inputs import Stream
from diffcls.support.errors import DataError

MAX_IMAGES_AHEAD = 32
"""Images of a stream that are scored together: enough for full batches until the last rounds."""

Prediction = list[dict[str, Any]]
"""Labels with their probabilities, best first."""
Score = Callable[[list[Any], int], Iterator[Prediction]]


class PredictionStream(Iterator[Prediction]):
    """Iterator over the predictions of a stream of images, in the order of the images.

    The images are read in the thread that requests the predictions. The first one is scored alone,
    so that its prediction comes at once; then up to `ahead` images are read and scored together.
    Where reading or scoring fails, the predictions of the images before it come first.

    Args:
        stream: the images.
        score: images and the index of the first one -> their predictions, in order.
        ahead: number of images that are read and scored together.
    """

    def __init__(self, stream: Stream, score: Score, ahead: int) -> None:
        self._count = stream.count
        self._predictions = _predictions(stream.images, score, min(ahead, MAX_IMAGES_AHEAD))

    def __next__(self) -> Prediction:
        return next(self._predictions)

    def close(self) -> None:
        """End the stream: nothing more is read, and the iterator is exhausted."""
        close: Callable[[], None] = self._predictions.close  # type: ignore[attr-defined]
        close()

    def __repr__(self) -> str:
        many = "images" if self._count is None else f"{self._count} images"
        return f"<predictions of {many}, computed as they are requested: iterate, or use list()>"


class SizedPredictionStream(PredictionStream):
    """The predictions of a data set, whose number is known: progress bars show it."""

    def __len__(self) -> int:
        return self._count or 0

    def __bool__(self) -> bool:
        return True


def prediction_stream(stream: Stream, score: Score, ahead: int) -> PredictionStream:
    """The predictions of a stream; they have a length if it is known."""
    kind = PredictionStream if stream.count is None else SizedPredictionStream
    return kind(stream, score, ahead)


def _predictions(images: Iterator[Any], score: Score, ahead: int) -> Iterator[Prediction]:
    first, size = 0, 1
    while True:
        chunk, failure = _take(images, size)
        count = len(chunk)
        if first + count == 0 and failure is None:
            raise DataError("no image", given="a stream without images", allowed="one or more")
        if count:
            predictions = score(chunk, first)
            del chunk  # the images are not kept while their predictions are consumed
            yield from predictions
        if failure is not None:
            raise failure
        if count < size:
            return
        first, size = first + count, ahead


def _take(images: Iterator[Any], size: int) -> tuple[list[Any], Exception | None]:
    """The next images, at most `size`; and the error that ended them, if one did."""
    chunk: list[Any] = []
    try:
        for image in images:
            chunk.append(image)
            if len(chunk) == size:
                break
    except Exception as error:
        return chunk, error
    return chunk, None
