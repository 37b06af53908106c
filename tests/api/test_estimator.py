"""Estimator of scikit-learn's interface on a real pipeline; its contract is walked elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score

from diffcls import DiffusionClassifier, UsageError, fit_temperature
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
        (np.zeros((2, 8, 8)), [0, 0], "only one class"),
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


def test_the_temperature_to_store_is_that_of_the_log_probabilities(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = data
    plain = DiffusionClassifier(temperature=3.0, **options).fit(images, labels)
    codes = np.searchsorted(plain.classes_, labels)
    found = fit_temperature(plain.predict_log_proba(images), codes, scale=plain.temperature_)
    fitted = DiffusionClassifier(calibration_images=24, **options).fit(images, labels)
    assert found == pytest.approx(fitted.temperature_, rel=1e-5)
    stored = DiffusionClassifier(temperature=found, **options).fit(images, labels)
    assert stored.predict_proba(images) == pytest.approx(fitted.predict_proba(images), abs=1e-6)


def test_names_by_label_serve_folds_that_lack_a_class(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = data
    names = {1: "one", 7: "seven", 8: "eight"}
    pair = labels != 8
    fold = DiffusionClassifier(class_names=names, **options).fit(images[pair], labels[pair])
    listed = DiffusionClassifier(class_names=["one", "seven"], **options)
    listed.fit(images[pair], labels[pair])
    assert (fold.predict_proba(images) == listed.predict_proba(images)).all()


def test_a_failed_fit_leaves_a_fitted_estimator_as_it_was(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = data
    fitted = DiffusionClassifier(**options).fit(images, labels)
    before = fitted.predict_proba(images)
    with pytest.raises(UsageError, match="template"):
        fitted.set_params(template="no braces").fit(images, np.where(labels == 1, 3, labels))
    assert fitted.classes_.tolist() == [1, 7, 8]
    assert (fitted.predict_proba(images) == before).all()


def test_labels_of_another_kind_are_refused_before_an_image_is_scored(
    options: dict[str, Any], data: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = data
    fitted = DiffusionClassifier(**options).fit(images, labels)
    monkeypatch.setattr(fitted, "_scores", lambda X: pytest.fail("scored"))
    for y, weights, message in (
        (labels.astype(str), None, "another kind"),
        (labels[:5], None, r"differ in number: \(24, 5\)"),
        (labels, [1.0], "wrong shape"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.score(images, y, sample_weight=weights)
