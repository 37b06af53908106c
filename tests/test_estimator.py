"""The scikit-learn estimator: its own rules, and scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.utils.estimator_checks import estimator_checks_generator

from diffcls import DiffusionClassifier
from diffcls.data import digits
from diffcls.errors import DataError

# checks that feed a table (n, features) of numbers, which is no image
TABLES = {
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit2d_predict1d",
    "check_fit1d",
    "check_n_features_in",
}


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    items = [item for item in digits.load("train").items if item.label in (1, 7, 8)][:24]
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


def test_temperature_is_fitted_only_where_asked_and_never_changes_the_answer(
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
    ("images", "labels", "said"),
    [
        (np.zeros((4, 9)), [0, 1, 0, 1], "does not hold images"),
        (np.zeros((4, 8, 8)), [0, 1, 0], "differ in number"),
        (np.zeros((2, 8, 8)), [0, 0], "two labels"),
        (np.zeros((0, 8, 8)), [], "no image"),
        (np.zeros((2, 8, 8)), None, "requires y"),
    ],
)
def test_what_does_not_fit_is_refused(
    options: dict[str, Any], images: np.ndarray, labels: list[int] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        DiffusionClassifier(**options).fit(images, labels)


def test_class_names_must_fit_the_labels(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.raises(DataError, match="class names do not fit"):
        DiffusionClassifier(class_names=["one"], **options).fit(*data)


def test_scikit_learns_own_checks_hold_as_far_as_images_allow(options: dict[str, Any]) -> None:
    ran = []
    estimator = DiffusionClassifier(**options)
    with pytest.warns(UserWarning, match="Can't test estimator"):
        checks = list(estimator_checks_generator(estimator, legacy=True))
    for checked, check in checks:
        name = getattr(check, "func", check).__name__
        if name not in TABLES:
            check(checked)
            ran.append(name)
    assert {"check_estimator_cloneable", "check_no_attributes_set_in_init"} <= set(ran)
