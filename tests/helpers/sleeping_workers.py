"""A served object without a model: it sleeps, logs each image, and may kill its worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from diffcls.scoring.class_scores import ClassScores


@dataclass(frozen=True)
class Sleeping:
    """Makes itself.

    Args:
        log: file that gets a line per image as its work begins: key and process.
        seconds: time per image.
        classes: number of scores of an image.
        ahead: images that are in flight together, as in a batch.
        poison: images that kill their worker.
        error: image that raises ValueError.
    """

    log: str
    seconds: float = 0.0
    classes: int = 10
    ahead: int = 8
    poison: tuple[int, ...] = ()
    error: int | None = None

    def __call__(self) -> Sleeping:
        return self

    def stream(self, keys: Iterator[int]) -> Iterator[tuple[int, ClassScores]]:
        """Scores that depend on the image alone, `ahead` images at a time."""
        batch: list[int] = []
        for key in keys:
            batch.append(key)
            if len(batch) == self.ahead:
                yield from self._batch(batch)
                batch = []
        yield from self._batch(batch)

    def _batch(self, keys: list[int]) -> Iterator[tuple[int, ClassScores]]:
        for key in keys:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{key} {os.getpid()}\n")
            if key in self.poison:
                os.kill(os.getpid(), signal.SIGKILL)
            if key == self.error:
                raise ValueError(f"image {key}")
            time.sleep(self.seconds)
            yield key, scores_of(key, self.classes)

    def double(self, value: int) -> int:
        """A method to call."""
        return 2 * value


def scores_of(key: int, classes: int = 10) -> ClassScores:
    """The scores of an image: they depend on its number alone."""
    scores = np.random.default_rng(key).standard_normal(classes)
    return ClassScores(f"test/{key}", scores, np.argsort(-scores), classes, 0.5)
