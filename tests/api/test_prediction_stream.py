"""Streams of images: lazy, in order, with a bounded look-ahead, and never held whole."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import diffcls
from diffcls.api.inputs import Stream, as_stream
from diffcls.api.prediction_stream import MAX_IMAGES_AHEAD, prediction_stream
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError

LABELS = ["one", "seven"]


@pytest.fixture(scope="module")
def classifier(tiny_pipeline: Callable[[str], Path]) -> diffcls.ZeroShotImageClassifier:
    return diffcls.ZeroShotImageClassifier.from_pretrained(
        str(tiny_pipeline("v_prediction")), search="exhaustive", draws=1, batch_size=8
    )


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [item.open().convert("RGB") for item in load_dataset("digits", "test").items[:12]]


class Countable:
    """An object that can be referenced weakly, in place of an image."""


def number_of(images: list[Any], first: int) -> Iterator[Any]:
    """A scorer whose predictions are the indices of the images."""
    return iter([[{"label": str(first + i), "score": 1.0}] for i in range(len(images))])


def indices(predictions: Any) -> list[int]:
    return [int(prediction[0]["label"]) for prediction in predictions]


@pytest.mark.parametrize("ahead", [1, 7, 64])
def test_ten_thousand_images_come_in_order_and_few_are_held(ahead: int) -> None:
    alive: weakref.WeakSet[Countable] = weakref.WeakSet()
    most, read = 0, 0

    def source() -> Iterator[Countable]:
        nonlocal most, read
        for _ in range(10_000):
            image = Countable()
            alive.add(image)
            most, read = max(most, len(alive)), read + 1
            yield image
            del image

    stream = prediction_stream(Stream(source(), None), number_of, ahead)
    assert read == 0  # nothing is read before it is asked for
    limit = min(ahead, MAX_IMAGES_AHEAD)
    for wanted, prediction in enumerate(stream):
        assert indices([prediction]) == [wanted]
        assert read - wanted <= limit
    gc.collect()
    assert wanted == 9_999 and read == 10_000
    assert most <= limit + 1 and not alive


def test_the_first_result_comes_before_the_second_image_is_read(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    read = []

    def source() -> Iterator[Image.Image]:
        for i in itertools.count():
            read.append(i)
            yield images[i % len(images)]

    stream = classifier(source(), candidate_labels=LABELS)
    assert read == []
    first = next(stream)
    assert read == [0]
    assert first == classifier(images[0], candidate_labels=LABELS)
    next(stream)
    assert len(read) == 1 + classifier.batch_size
    stream.close()  # of a source without an end
    assert list(stream) == []


def test_a_stream_gives_what_a_list_gives_to_the_bit(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    wanted = classifier(images, candidate_labels=LABELS)
    for source in (iter(images), (image for image in images), map(np.asarray, images)):
        assert list(classifier(source, candidate_labels=LABELS)) == wanted


def test_calls_between_the_results_of_a_stream_change_nothing(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    wanted = classifier(images, candidate_labels=LABELS)
    found = []
    for answer in classifier(iter(images), candidate_labels=LABELS):
        found.append(answer)
        classifier(images[0], candidate_labels=["two", "four", "six"])
    assert found == wanted


class Torch(torch.utils.data.Dataset):
    def __init__(self, images: list[Any]) -> None:
        self.images = images
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.read.append(index)
        return self.images[index], 0


class Iterated(torch.utils.data.IterableDataset):
    def __init__(self, images: list[Any]) -> None:
        self.images = images

    def __iter__(self) -> Iterator[Any]:
        return iter(self.images)


def table(images: list[Any]) -> datasets.Dataset:
    column = {"image": images, "label": [0] * len(images)}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict(column, features=features)


@pytest.mark.parametrize("kind", [Torch, Iterated, table, lambda i: table(i).to_iterable_dataset()])
def test_data_sets_are_streams(
    kind: Callable[[list[Any]], Any],
    classifier: diffcls.ZeroShotImageClassifier,
    images: list[Image.Image],
) -> None:
    data = kind(images)
    wanted = classifier(images, candidate_labels=LABELS)
    answers = classifier(data, candidate_labels=LABELS)
    assert iter(answers) is answers and next(answers) == wanted[0]
    if isinstance(data, Torch):
        assert data.read == [0]
    sized = not isinstance(data, Iterated | datasets.IterableDataset)
    assert hasattr(answers, "__len__") == sized
    if sized:  # for progress bars
        assert len(answers) == len(images)
    assert list(answers) == wanted[1:] and ("12 images" in repr(answers)) == sized


def test_a_column_is_scored_in_parts_and_gives_a_list(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    column = table(images)["image"]
    stream = as_stream(column)
    assert stream is not None and stream.is_column and stream.count == 12
    answers = classifier(column, candidate_labels=LABELS)
    assert answers == classifier(images, candidate_labels=LABELS)


def test_results_before_a_failure_come_first(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    def source() -> Iterator[Any]:
        yield from images[:5]
        raise ConnectionError("the source is gone")

    found: list[Any] = []
    with pytest.raises(ConnectionError, match="the source is gone"):
        found.extend(classifier(source(), candidate_labels=LABELS))
    assert found == classifier(images[:5], candidate_labels=LABELS)
    for bad, message in (
        ("nowhere.png", r"^image 3: file not found: 'nowhere\.png'"),
        (3, "^image 3 cannot be read as an image: 'int'"),
        (b"no image", "image 3 cannot be scored: cannot read image"),
    ):
        stream = classifier(iter([*images[:3], bad, images[4]]), candidate_labels=LABELS)
        assert [next(stream) for _ in range(3)] == classifier(images[:3], candidate_labels=LABELS)
        with pytest.raises(DataError, match=message):
            next(stream)


def test_wrong_arguments_of_a_stream_are_refused_at_the_call(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    with pytest.raises(diffcls.UsageError, match="two labels"):
        classifier(iter(images), candidate_labels=["one"])
    with pytest.raises(DataError, match=r"a loader yields batches.*loader.dataset"):
        classifier(torch.utils.data.DataLoader(Torch(images)), candidate_labels=LABELS)
    with pytest.raises(DataError, match="no image"):
        list(classifier(iter(()), candidate_labels=LABELS))
    with pytest.raises(DataError, match="several data sets"):
        classifier(datasets.DatasetDict({"test": table(images)}), candidate_labels=LABELS)
