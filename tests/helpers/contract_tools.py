"""Checks of the rows of docs/scikit-learn.md on copies, files and scikit-learn's own tools."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import datasets
import joblib
import numpy as np
import pandas
import pytest
from helpers.contract_rows import World, no, yes
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, make_scorer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError

FOLDS = StratifiedKFold(2)
WEIGHTS = np.array([0.0, 1, 2, 0.5, 1, 3, 1, 0, 1, 1, 2, 1])


def routing() -> Any:
    return config_context(enable_metadata_routing=True)


# ---- copies and files ----------------------------------------------------------------------------


@yes("sklearn.base.clone")
def _(w: World) -> None:
    names = {0: "zero", 1: "one", 2: "two"}
    fitted = w.fitted(class_names=names, template=["{}", "a {}"], temperature=2.0)
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params() and not hasattr(cloned, "classes_")


@yes("copy.deepcopy")
def _(w: World) -> None:
    fitted = w.fitted()
    copied = copy.deepcopy(fitted)
    assert (copied.predict_proba(w.images) == fitted.predict_proba(w.images)).all()


@yes("pickle")
def _(w: World) -> None:
    fitted = w.fitted(calibration_images=12)
    content = pickle.dumps(fitted)
    again = pickle.loads(content)
    assert len(content) < 10_000 and again.temperature_ == fitted.temperature_
    assert (again.predict_log_proba(w.images) == fitted.predict_log_proba(w.images)).all()


@yes("joblib.dump, joblib.load")
def _(w: World) -> None:
    fitted = w.fitted(calibration_images=12)
    joblib.dump(fitted, w.folder / "fitted.joblib")
    again = joblib.load(w.folder / "fitted.joblib")
    assert (again.predict_log_proba(w.images) == fitted.predict_log_proba(w.images)).all()


# ---- model selection -----------------------------------------------------------------------------


def own_folds(w: World, X: Any) -> list[float]:
    """Accuracies of the folds, by hand."""
    scores = []
    for train, test in FOLDS.split(w.labels, w.labels):
        fitted = w.make().fit([X[i] for i in train], w.labels[train])
        scores.append(accuracy_score(w.labels[test], fitted.predict([X[i] for i in test])))
    return scores


@yes("train_test_split")
def _(w: World) -> None:
    series = pandas.Series(w.files())
    for X in (w.images, list(w.images), series, series.to_frame(), series.to_list()):
        train, test, y_train, y_test = train_test_split(X, w.labels, stratify=w.labels)
        assert 0 <= w.make().fit(train, y_train).score(test, y_test) <= 1


@yes("cross_val_score")
def _(w: World) -> None:
    paths = w.files()
    wanted = own_folds(w, paths)
    for X in (paths, np.array(paths), pandas.Series(paths), pandas.DataFrame({"file": paths})):
        scores = cross_val_score(w.make(), X, w.labels, cv=FOLDS, error_score="raise")
        assert scores.tolist() == wanted


@yes("cross_val_predict")
def _(w: World) -> None:
    p = cross_val_predict(w.make(), list(w.images), w.labels, cv=FOLDS, method="predict_log_proba")
    assert p == pytest.approx(w.fitted().predict_log_proba(w.images))  # nothing is trained


@no("cross_val_score on a generator")
def _(w: World) -> None:
    with pytest.raises(TypeError, match="array-like"):
        cross_val_score(w.make(), iter(list(w.images)), w.labels, cv=FOLDS)


@no("cross_val_score on a datasets.Dataset")
def _(w: World) -> None:
    dataset = datasets.Dataset.from_dict({"image": w.files()})
    with pytest.raises(TypeError):
        cross_val_score(w.make(), dataset, w.labels, cv=FOLDS, error_score="raise")
    scores = cross_val_score(w.make(), dataset["image"], w.labels, cv=FOLDS, error_score="raise")
    assert scores.tolist() == own_folds(w, w.files())


@yes("cross_validate(params={'sample_weight': …})")
def _(w: World) -> None:
    with routing():
        estimator = w.make(calibration_images=99)
        estimator.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        weights = {"sample_weight": WEIGHTS}
        options: dict[str, Any] = {"cv": FOLDS, "error_score": "raise", "return_estimator": True}
        result = cross_validate(estimator, w.images, w.labels, params=weights, **options)
    for i, (train, test) in enumerate(FOLDS.split(w.labels, w.labels)):
        alone = w.make(calibration_images=99)
        alone.fit(w.images[train], w.labels[train], sample_weight=WEIGHTS[train])
        assert result["estimator"][i].temperature_ == alone.temperature_
        hits = alone.predict(w.images[test]) == w.labels[test]
        assert result["test_score"][i] == pytest.approx(np.average(hits, weights=WEIGHTS[test]))


@yes("make_scorer(…).set_score_request(sample_weight=True)")
def _(w: World) -> None:
    fitted = w.fitted()
    with routing():
        scorer = make_scorer(log_loss, response_method="predict_proba", greater_is_better=False)
        scorer = scorer.set_score_request(sample_weight=True)
        score = scorer(fitted, w.images, w.labels, sample_weight=WEIGHTS)
    log_p = fitted.predict_log_proba(w.images)[np.arange(12), w.labels]
    assert score == pytest.approx(np.average(log_p, weights=WEIGHTS))


@yes("GridSearchCV over search and draws")
def _(w: World) -> None:
    grid = [{"search": ["exhaustive", "racing"], "draws": [2, 8]}, {"search": ["paper"]}]
    search = GridSearchCV(w.make(draws=None), grid, cv=FOLDS, error_score="raise")
    search.fit(w.images, w.labels)
    assert len(search.cv_results_["params"]) == 5
    best = w.make(draws=None).set_params(**search.best_params_)
    assert search.best_score_ == cross_val_score(best, w.images, w.labels, cv=FOLDS).mean()
    assert (search.predict(w.images) == best.fit(w.images, w.labels).predict(w.images)).all()


@yes("GridSearchCV over temperature and calibration_images")
def _(w: World) -> None:
    temperatures = [1.0, 3.0, 1e4]
    grid = [{"temperature": temperatures}, {"calibration_images": [6]}]
    search = GridSearchCV(w.make(), grid, cv=FOLDS, scoring="neg_log_loss", error_score="raise")
    search.fit(w.images, w.labels)
    scores = search.cv_results_["mean_test_score"]
    for score, temperature in zip(scores, temperatures, strict=False):
        p = w.fitted(temperature=temperature).predict_proba(w.images)
        assert score == pytest.approx(-log_loss(w.labels, p))


@yes("cross_val_score(n_jobs=2)")
def _(w: World) -> None:
    with joblib.parallel_backend("threading"):
        scores = cross_val_score(w.make(), w.images, w.labels, cv=FOLDS, n_jobs=2)
    assert scores.tolist() == own_folds(w, w.images)


@yes("learning_curve")
def _(w: World) -> None:
    sizes, _, scores = learning_curve(
        w.make(), w.images, w.labels, cv=FOLDS, train_sizes=[4, 6], error_score="raise"
    )
    assert sizes.tolist() == [4, 6] and (scores[0] == scores[1]).all()  # nothing is trained


@yes("TunedThresholdClassifierCV, FixedThresholdClassifier")
def _(w: World) -> None:
    y = w.labels == 0
    TunedThresholdClassifierCV(w.make(), cv=FOLDS).fit(w.images, y).predict(w.images)
    fixed = FixedThresholdClassifier(w.make(), threshold=0.7).fit(w.images, y)
    p = w.make().fit(w.images, y).predict_proba(w.images)[:, 1]
    assert (fixed.predict(w.images) == (p >= 0.7)).all()


# ---- calibration ---------------------------------------------------------------------------------


@yes("FrozenEstimator")
def _(w: World) -> None:
    fitted = w.fitted()
    frozen = FrozenEstimator(fitted).fit(w.images, (w.labels + 1) % 3)
    assert (frozen.predict(w.images) == fitted.predict(w.images)).all()


@yes("CalibratedClassifierCV")
def _(w: World) -> None:
    for X in (w.images, list(w.images), pandas.Series(w.files())):
        for estimator in (w.make(), FrozenEstimator(w.fitted())):
            calibrated = CalibratedClassifierCV(estimator, cv=FOLDS).fit(X, w.labels)
            assert calibrated.predict_proba(X).sum(axis=1) == pytest.approx(1.0)


@yes("CalibratedClassifierCV(method='temperature')")
def _(w: World) -> None:
    fitted = w.fitted(calibration_images=99)
    frozen = FrozenEstimator(w.fitted())
    try:
        theirs = CalibratedClassifierCV(frozen, method="temperature", cv=FOLDS)
        theirs.fit(w.images, w.labels)
    except InvalidParameterError:
        pytest.skip("since scikit-learn 1.8")
    assert fitted.predict_proba(w.images) == pytest.approx(theirs.predict_proba(w.images), abs=1e-3)


# ---- composition ---------------------------------------------------------------------------------


@yes("Pipeline")
def _(w: World) -> None:
    upside_down = w.images[:, ::-1]
    pipeline = make_pipeline(FunctionTransformer(lambda X: X[:, ::-1]), w.make())
    pipeline.fit(upside_down, w.labels)
    assert (pipeline.predict_proba(upside_down) == w.fitted().predict_proba(w.images)).all()
    score = pipeline.score(upside_down, w.labels, sample_weight=WEIGHTS)
    assert score == w.fitted().score(w.images, w.labels, sample_weight=WEIGHTS)
    assert len(pipeline.set_params(diffusionclassifier__draws=3).get_params()) > 12


@yes("Pipeline.set_output")
def _(w: World) -> None:
    table = pandas.DataFrame({"name": [f"{i}.png" for i in range(12)]})
    w.files()
    in_folder = FunctionTransformer(
        lambda X: X.map(lambda name: str(w.folder / name)), feature_names_out="one-to-one"
    )
    pipeline = make_pipeline(in_folder, w.make()).set_output(transform="pandas")
    predicted = pipeline.fit(table, w.labels).predict(table)
    rounded = list((w.images * 255).round().astype(np.uint8))
    assert isinstance(predicted, np.ndarray)
    assert (predicted == w.fitted().predict(rounded)).all()


@yes("Pipeline with metadata routing")
def _(w: World) -> None:
    with routing():
        estimator = w.make(calibration_images=99).set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), estimator)
        pipeline.fit(w.images, w.labels, sample_weight=WEIGHTS)
    alone = w.make(calibration_images=99).fit(w.images, w.labels, sample_weight=WEIGHTS)
    assert pipeline[-1].temperature_ == alone.temperature_


@yes("VotingClassifier")
def _(w: World) -> None:
    members = [("a", w.make(seed=0)), ("b", w.make(seed=1))]
    voting = VotingClassifier(members, voting="soft").fit(w.images, w.labels)
    p = [m.fit(w.images, w.labels).predict_proba(w.images) for _, m in members]
    assert voting.predict_proba(w.images) == pytest.approx((p[0] + p[1]) / 2)


@yes("StackingClassifier")
def _(w: World) -> None:
    stack = StackingClassifier([("a", w.make())], LogisticRegression(), cv=FOLDS)
    stack.fit(w.images, w.labels)
    assert stack.transform(w.images).shape == (12, 3)


@yes("OneVsRestClassifier")
def _(w: World) -> None:
    fitted = OneVsRestClassifier(w.make()).fit(w.images, w.labels)
    assert fitted.predict_proba(w.images).shape == (12, 3)


@no("BaggingClassifier")
def _(w: World) -> None:
    with pytest.raises(ValueError, match=r"dim 3|features"):
        BaggingClassifier(w.make(), n_estimators=2).fit(w.images, w.labels)


@no("permutation_importance")
def _(w: World) -> None:
    with pytest.raises(ValueError, match=r"dim 3|features"):
        permutation_importance(w.fitted(), w.images, w.labels)


@no("set_config(transform_output=…)")
def _(w: World) -> None:
    with config_context(transform_output="pandas"):
        assert isinstance(w.fitted().predict_proba(w.images), np.ndarray)
