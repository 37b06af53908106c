"""Zero-shot validation: the time limit, and images that cannot be scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch  # noqa: F401  (this file needs it)

from diffcls.classifiers import validation
from diffcls.data.dataset import Dataset, Item
from diffcls.data.subsets import stratified_order
from diffcls.scoring.class_scores import ClassScores


class Clock:
    """A clock that only the fake classifier moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Classifier:
    """It takes a stated time per image, and is right where the image's number is even."""

    def __init__(self, clock: Clock, seconds: dict[str, float]) -> None:
        self.clock, self.seconds = clock, seconds
        self.batches: list[list[str]] = []

    def classify(self, items: Any) -> Any:
        self.batches.append([item.image_id for item in items])
        for item in items:
            self.clock.now += self.seconds[item.image_id]
            if self.seconds[item.image_id] == 0:
                yield ClassScores.failed(item.image_id, "no image")
                continue
            right = int(item.image_id) % 2 == 0
            guess = item.label if right else 1 - item.label
            scores = np.eye(2)[guess]
            yield ClassScores(item.image_id, scores, np.array([guess, 1 - guess]), 2, 1.0)


def dataset(count: int) -> Dataset:
    items = tuple(Item(str(i), int(i % 3 == 0), lambda: None) for i in range(count))  # type: ignore
    return Dataset("own", "validation", ("a", "b"), items, revision="")


def validated(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], limit: float | None
) -> tuple[validation.Validation, Classifier, Clock]:
    clock = Clock()
    classifier = Classifier(clock, {str(i): each for i, each in enumerate(seconds)})
    monkeypatch.setattr(validation, "time", clock)
    monkeypatch.setattr(validation, "DiffusionMethod", lambda *_, **__: classifier)
    denoiser: Any = type("Model", (), {"card": type("Card", (), {"allocation": "even"})})
    prompts: Any = None
    search: Any = None
    data = dataset(len(seconds))
    result = validation.validate(denoiser, data, prompts, search, time_limit=limit)
    return result, classifier, clock


def test_images_of_equal_time_fill_the_limit_and_do_not_exceed_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, classifier, clock = validated(monkeypatch, [1.0] * 40, limit=20)
    order = [str(i) for i in stratified_order(dataset(40))]
    begun = [name for batch in classifier.batches for name in batch]
    # 4, then 80 % of what fits into the rest, and again
    assert [len(batch) for batch in classifier.batches] == [4, 12, 3]
    assert begun == order[:19]
    assert clock.now == 19
    assert (result.asked, len(result.labels), result.failed) == (40, 19, 0)
    right = [int(name) % 2 == 0 for name in order[:19]]
    assert result.accuracy == pytest.approx(sum(right) / 19)
    assert result.seconds == 19


def test_an_image_is_never_left_out_for_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever image is slow: it is scored if it was begun, and which are begun is known before.

    Otherwise the accuracy would be that of the images on which a race ends early.
    """
    order = stratified_order(dataset(12))
    for slow in order[:4]:
        seconds = [1.0] * 12
        seconds[slow] = 100.0
        result, classifier, _ = validated(monkeypatch, seconds, limit=8)
        assert classifier.batches == [[str(i) for i in order[:4]]]
        assert len(result.labels) == 4


def test_without_a_limit_all_images_are_classified_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, classifier, _ = validated(monkeypatch, [5.0] * 10, limit=None)
    assert classifier.batches == [[str(i) for i in range(10)]]
    assert (result.accuracy, result.evaluations) == (0.5, 2)


def test_images_that_fail_are_counted_and_left_out_of_the_accuracy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    result, _, _ = validated(monkeypatch, [1.0, 0.0, 1.0, 0.0], limit=None)
    assert (result.accuracy, len(result.labels), result.failed, result.asked) == (1.0, 2, 2, 4)
    assert "2 of 4 images could not be scored: no image" in caplog.text
    result, _, _ = validated(monkeypatch, [0.0, 0.0], limit=None)
    assert np.isnan(result.accuracy) and result.scores.shape == (0, 0)
