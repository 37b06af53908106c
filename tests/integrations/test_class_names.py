"""`ZeroShotAccuracy`: labels of a person's data set, and the classes of a model, by their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.pipeline_states import built

from diffcls import ZeroShotImageClassifier
from diffcls.integrations import ZeroShotAccuracy
from diffcls.support.errors import DataError, UsageError

PROMPTS = {"dog": "a photo of a dog", "cat": "a photo of a cat"}


class Folder:
    """A data set as torchvision's, whose labels are indices of its `classes`."""

    classes = ("cat", "dog")

    def __init__(self, labels: list[int]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return picture(index), self.labels[index]


class Part:
    """A part of a data set, as torch's `Subset`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("wrap", [lambda data: data, Part])
def test_labels_are_indices_of_the_data_sets_own_names(wrap: Any) -> None:
    accuracy = ZeroShotAccuracy(dataset=wrap(Folder([0, 1, 1])), prompts=PROMPTS)
    names = [accuracy.data.class_names[item.label] for item in accuracy.data.items]
    assert names == ["cat", "dog", "dog"]
    of_class = dict(zip(accuracy.prompts.prompts, accuracy.prompts.class_of, strict=True))
    assert [accuracy.data.class_names[of_class[PROMPTS[n]]] for n in ("cat", "dog")] == [
        "cat",
        "dog",
    ]


def test_a_mapping_has_the_order_of_labels_where_the_data_have_no_names() -> None:
    data = [(picture(0), 0), (picture(1), "cat")]
    accuracy = ZeroShotAccuracy(dataset=data, prompts=PROMPTS)
    assert [accuracy.data.class_names[item.label] for item in accuracy.data.items] == ["dog", "cat"]


def test_templates_are_no_prompts_of_own_classes() -> None:
    with pytest.raises(UsageError, match=r"templates have no names.*'a photo of a \{\}'"):
        ZeroShotAccuracy(dataset=Folder([0, 1]), prompts=["a photo of a {}", "a {}"])


def test_a_mapping_is_no_data_set() -> None:
    with pytest.raises(DataError, match=r"dataset is a mapping.*'image', 'label'.*splits"):
        ZeroShotAccuracy(dataset={"image": [picture(0)], "label": [0]}, prompts=PROMPTS)


def test_a_fraction_is_no_label() -> None:
    data = [(picture(0), np.float32(0.7)), (picture(1), np.int64(1))]
    with pytest.raises(DataError, match="label of image 0 is none of the classes"):
        ZeroShotAccuracy(dataset=data, prompts=PROMPTS)


@pytest.mark.parametrize("parts", [(), ("transformer",)])
def test_a_model_that_names_its_classes_is_asked_by_name(parts: tuple[str, ...]) -> None:
    pipeline = built("dit")
    own = ["dog", "cat", *(f"other {i}" for i in range(8))]
    pipeline.labels = {name: k for k, name in enumerate(own)}
    names = sorted(own)
    classifier = ZeroShotImageClassifier.from_pipeline(pipeline, draws=4)
    answers = [answer[0]["label"] for answer in classifier([*map(picture, range(4))], names)]
    data = [(picture(i), answer) for i, answer in enumerate(answers)]
    accuracy = ZeroShotAccuracy(dataset=data, prompts={n: n for n in names}, draws=4)
    given = {name: getattr(pipeline, name) for name in parts}
    assert accuracy.measure(pipeline, 1, **given).accuracy == 1
