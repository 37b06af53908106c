"""Estimator of scikit-learn's interface: its own rules, and scikit-learn's checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.utils import estimator_checks, get_tags

from diffcls import DiffusionClassifier
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    items = [item for item in load_dataset("digits", "train").items if item.label in (1, 7, 8)][:24]
    images = np.stack([np.asarray(item.open()) for item in items])  # (n, 8, 8) uint8
    return images, np.array([item.label for item in items])


@pytest.fixture(scope="module")
def options(tiny_pipeline: Callable[[str], Path]) -> dict[str, Any]:
    return {"model": str(tiny_pipeline("v_prediction")), "search": "exhaustive", "draws": 3}


def test_constructor_only_stores_and_clone_keeps(options: dict[str, Any]) -> None:
    names = ["a", "b"]
    made = DiffusionClassifier(class_names=names, template="{}", seed=3, **options)
    assert made.class_names is names
    assert clone(made).get_params() == made.get_params()
    with pytest.raises(TypeError):
        DiffusionClassifier("digits")  # type: ignore[misc]


def test_predictions_scores_and_probabilities_agree(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = data
    fitted = DiffusionClassifier(class_names=["one", "seven", "eight"], **options).fit(
        images, labels
    )
    assert fitted.classes_.tolist() == [1, 7, 8]
    scores, p = fitted.decision_function(images), fitted.predict_proba(images)
    assert scores.shape == p.shape == (24, 3)
    assert (scores < 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    predicted = fitted.predict(images)
    assert (predicted == fitted.classes_[scores.argmax(axis=1)]).all()
    assert (predicted == fitted.classes_[p.argmax(axis=1)]).all()
    assert fitted.score(images, labels) == accuracy_score(labels, predicted)


def test_temperature_is_fitted_only_on_request_and_changes_no_prediction(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = data
    names = ["one", "seven", "eight"]
    stored = DiffusionClassifier(class_names=names, **options).fit(images, labels)
    fitted = DiffusionClassifier(class_names=names, calibration_images=24, **options)
    fitted.fit(images, labels)
    assert stored.temperature_ == 1.0
    assert fitted.temperature_ > 0
    assert (stored.predict(images) == fitted.predict(images)).all()
    rows, codes = np.arange(24), np.unique(labels, return_inverse=True)[1]
    likelihood = [
        np.log(np.maximum(c.predict_proba(images)[rows, codes], 1e-300)).mean()
        for c in (stored, fitted)
    ]
    assert likelihood[1] >= likelihood[0] - 1e-9


def test_two_classes_have_one_score(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = data
    pair = labels != 8
    fitted = DiffusionClassifier(class_names=["one", "seven"], **options)
    fitted.fit(images[pair], labels[pair])
    decision = fitted.decision_function(images[pair])
    assert decision.shape == (pair.sum(),)
    assert (fitted.predict(images[pair]) == np.where(decision > 0, 7, 1)).all()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 9)), [0, 1, 0, 1], "does not hold images"),
        (np.zeros((4, 8, 8)), [0, 1, 0], "differ in number"),
        (np.zeros((2, 8, 8)), [0, 0], "two labels"),
        (np.zeros((0, 8, 8)), [], "no image"),
        (np.zeros((2, 8, 8)), None, "requires y"),
    ],
)
def test_unsuitable_images_or_labels_are_refused(
    options: dict[str, Any], images: np.ndarray, labels: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionClassifier(**options).fit(images, labels)


def test_class_names_must_match_the_labels(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.raises(DataError, match="class_names do not match"):
        DiffusionClassifier(class_names=["one"], **options).fit(*data)


# scikit-learn's checks that use no table of numbers, which is not an image
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_get_tags_default_keys",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("name", [name for name in CHECKS if hasattr(estimator_checks, name)])
def test_scikit_learns_checks_pass(options: dict[str, Any], name: str) -> None:
    getattr(estimator_checks, name)("DiffusionClassifier", DiffusionClassifier(**options))


def test_tags_declare_a_classifier_of_images() -> None:
    tags = get_tags(DiffusionClassifier())
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.three_d_array
    assert not tags.input_tags.two_d_array
    assert sum(hasattr(estimator_checks, name) for name in CHECKS) >= 6
