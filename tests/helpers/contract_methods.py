"""Checks of the rows of docs/scikit-learn.md on methods, attributes, parameters and tags."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from helpers.contract_rows import World, absent, no, not_an_argument, yes
from scipy.special import log_softmax
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from diffcls import DiffusionClassifier, UsageError, ZeroShotImageClassifier
from diffcls.metrics.calibration import negative_log_likelihood

WEIGHTS = np.array([0.0, 1, 2, 0.5, 1, 3, 1, 0, 1, 1, 2, 1])

# ---- methods -------------------------------------------------------------------------------------


@yes("fit(X, y)")
def _(w: World) -> None:
    estimator = w.make()
    assert estimator.fit(w.images, w.labels) is estimator
    assert len(w.calls) == 1


@yes("fit(X, y, sample_weight)")
def _(w: World) -> None:
    plain, weighted = w.make(calibration_images=12), w.make(calibration_images=12)
    plain.fit(w.images[WEIGHTS > 0], w.labels[WEIGHTS > 0])
    weighted.fit(w.images, w.labels, sample_weight=WEIGHTS > 0)
    assert plain.temperature_ == weighted.temperature_
    assert weighted.temperature_ != w.fitted(calibration_images=12).temperature_
    assert (plain.predict(w.images) == weighted.predict(w.images)).all()


@yes("predict")
def _(w: World) -> None:
    fitted = w.fitted()
    best = fitted.decision_function(w.images).argmax(axis=1)
    assert (fitted.predict(w.images) == fitted.classes_[best]).all()


@yes("predict_proba")
def _(w: World) -> None:
    p = w.fitted().predict_proba(w.images)
    assert p.shape == (12, 3) and p.sum(axis=1) == pytest.approx(1.0)
    # the same numbers as those of the class that is called as transformers' pipeline
    called = ZeroShotImageClassifier.from_pretrained("digits", search="exhaustive", draws=2)
    for row, answer in zip(p, called(list(w.images), ["0", "1", "2"]), strict=True):
        assert sorted(row.tolist(), reverse=True) == [pair["score"] for pair in answer]


@yes("predict_log_proba")
def _(w: World) -> None:
    fitted = w.fitted(temperature=1e-4)
    log_p, p = fitted.predict_log_proba(w.images), fitted.predict_proba(w.images)
    scores = fitted.decision_function(w.images)
    assert (p == 0).any() and np.isfinite(log_p).all() and (p == np.exp(log_p)).all()
    dimensions = 3 * 4 * 4
    assert log_p == pytest.approx(log_softmax(scores * dimensions / 1e-4, axis=1), rel=1e-9)


@yes("decision_function")
def _(w: World) -> None:
    assert w.fitted().decision_function(w.images).shape == (12, 3)
    two = w.labels < 2
    pair = w.make().fit(w.images[two], w.labels[two])
    decision, log_p = pair.decision_function(w.images), pair.predict_log_proba(w.images)
    # the log-odds of the second class, up to the factor of the posterior
    odds = log_p[:, 1] - log_p[:, 0]
    assert decision.shape == (12,) and odds == pytest.approx(decision * 48 / pair.temperature_)


@yes("score(X, y)")
def _(w: World) -> None:
    fitted = w.fitted()
    assert fitted.score(w.images, w.labels) == accuracy_score(w.labels, fitted.predict(w.images))


@yes("score(X, y, sample_weight)")
def _(w: World) -> None:
    fitted = w.fitted()
    hits = fitted.predict(w.images) == w.labels
    assert 0 < hits.mean() < 1
    score = fitted.score(w.images, w.labels, sample_weight=WEIGHTS)
    assert score == pytest.approx((hits * WEIGHTS).sum() / WEIGHTS.sum())


@yes("get_params")
def _(w: World) -> None:
    names = inspect.signature(DiffusionClassifier).parameters
    assert set(w.make().get_params()) == set(names)
    assert all(p.kind is p.KEYWORD_ONLY for p in names.values())


@yes("set_params")
def _(w: World) -> None:
    estimator = w.make()
    assert estimator.set_params(seed=4) is estimator and estimator.seed == 4
    with pytest.raises(ValueError, match="no_such"):
        estimator.set_params(no_such=1)


@yes("get_metadata_routing")
def _(w: World) -> None:
    requests = w.make().get_metadata_routing()
    assert requests.fit.requests == requests.score.requests == {"sample_weight": None}
    assert requests.predict.requests == {}


for method in ("fit", "score"):

    @yes(f"set_{method}_request")
    def _(w: World, method: str = method) -> None:
        with config_context(enable_metadata_routing=True):
            estimator = getattr(w.make(), f"set_{method}_request")(sample_weight=True)
        requests = getattr(estimator.get_metadata_routing(), method).requests
        assert requests == {"sample_weight": True}


@yes("_repr_html_")
def _(w: World) -> None:
    assert "DiffusionClassifier" in w.make()._repr_html_()


for name in (
    *("set_predict_request", "set_partial_fit_request", "partial_fit", "set_output", "transform"),
    *("fit_predict", "predict_joint_log_proba", "sparsify", "densify"),
    *("apply", "decision_path"),
    *("n_features_in_", "feature_names_in_", "n_iter_", "coef_", "feature_importances_"),
):
    absent(name)

# ---- attributes ----------------------------------------------------------------------------------


@yes("classes_")
def _(w: World) -> None:
    assert w.make().fit(w.images[:4], ["b", "a", "c", "b"]).classes_.tolist() == ["a", "b", "c"]


@yes("default class names")
def _(w: World) -> None:
    named = w.fitted(class_names=["0", "1", "2"]).decision_function(w.images)
    for labels in (w.labels, w.labels.astype(str), w.labels.astype(float)):
        assert (w.make().fit(w.images, labels).decision_function(w.images) == named).all()


@yes("temperature_")
def _(w: World) -> None:
    fitted, codes = w.fitted(calibration_images=12), w.labels

    def loss(temperature: float) -> float:
        p = w.fitted(temperature=temperature).predict_proba(w.images)
        return negative_log_likelihood(p, codes)

    best = fitted.temperature_
    assert loss(best) <= min(loss(best * 0.9), loss(best * 1.1), loss(best * 3))


@yes("check_is_fitted, NotFittedError")
def _(w: World) -> None:
    estimator = w.make()
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(estimator, name)(w.images)
    with pytest.raises(NotFittedError):
        estimator.score(w.images, w.labels)
    with pytest.raises(ValueError, match="search"):
        estimator.set_params(search="none").fit(w.images, w.labels)
    with pytest.raises(NotFittedError):  # nor is it half fitted by a fit that failed
        check_is_fitted(estimator)


# ---- parameters ----------------------------------------------------------------------------------


@yes("model=")
def _(w: World) -> None:
    w.fitted(model="fashion_mnist")
    assert w.calls[-1][0] == "fashion_mnist"
    with pytest.raises(UsageError, match="model cannot be read: None"):
        w.fitted(model=None)


@yes("class_names=")
def _(w: World) -> None:
    listed = w.fitted(class_names=["zero", "one", "two"]).decision_function(w.images)
    by_label = {3: "three", 2: "two", 1: "one", 0: "zero"}
    assert (w.fitted(class_names=by_label).decision_function(w.images) == listed).all()
    assert (w.fitted().decision_function(w.images) != listed).any()
    for wrong in (["zero", "one"], "one", {0: "zero"}, ["a", "a", "b"], {"a", "b", "c"}, 3):
        with pytest.raises(ValueError, match=r"class_names|duplicate"):
            w.fitted(class_names=wrong)


@yes("template=")
def _(w: World) -> None:
    one, other, both = (
        w.fitted(template=t).decision_function(w.images) for t in ("{}", "a {}", ["{}", "a {}"])
    )
    assert both == pytest.approx((one + other) / 2, rel=1e-6)
    for wrong in ("a digit", 3, [], {"{}"}, [1]):
        with pytest.raises(UsageError, match="template"):
            w.fitted(template=wrong)


@yes("search=")
def _(w: World) -> None:
    assert len(w.fitted(search="racing", draws=8).predict(w.images)) == 12
    for wrong in ("rcing", None):
        with pytest.raises(UsageError, match="search"):
            w.fitted(search=wrong)


@yes("draws=")
def _(w: World) -> None:
    few, many = (w.fitted(draws=n).decision_function(w.images) for n in (1, 30))
    assert (few != many).all()
    with pytest.raises(UsageError, match="draws out of range: 0"):
        w.fitted(draws=0)


@yes("confidence=")
def _(w: World) -> None:
    fitted = w.fitted(search="racing", draws=8, confidence=0.5)
    assert fitted._classifier.search.confidence == 0.5


@yes("seed=")
def _(w: World) -> None:
    first, again, other = (w.fitted(seed=n).decision_function(w.images) for n in (0, 0, 1))
    assert (first == again).all() and (first != other).all()
    for wrong in (None, -1, 1.5, np.random.RandomState(0)):
        with pytest.raises(UsageError, match="seed out of range"):
            w.fitted(seed=wrong)


@yes("calibration_images=")
def _(w: World) -> None:
    assert w.fitted().temperature_ == 1.0  # the card's
    chosen = [0, 4, 7, 11]  # four of twelve, evenly spread
    some = w.fitted(calibration_images=4)
    alone = w.make(calibration_images=99).fit(w.images[chosen], w.labels[chosen])
    assert some.temperature_ == alone.temperature_ != w.fitted(calibration_images=12).temperature_
    for wrong in (-1, 2.5, True, "all"):
        with pytest.raises(UsageError, match="calibration_images out of range"):
            w.fitted(calibration_images=wrong)


@yes("temperature=")
def _(w: World) -> None:
    plain, hot = w.fitted(), w.fitted(temperature=4)
    assert hot.temperature_ == 4.0
    assert hot.predict_proba(w.images).max() < plain.predict_proba(w.images).max()
    assert (hot.predict(w.images) == plain.predict(w.images)).all()
    for wrong in (0, -1.0, float("nan"), float("inf"), "1"):
        with pytest.raises(UsageError, match="temperature out of range"):
            w.fitted(temperature=wrong)
    with pytest.raises(UsageError, match="exclude each other"):
        w.fitted(temperature=2.0, calibration_images=4)


@yes("batch_size=")
def _(w: World) -> None:
    small, large = (w.fitted(batch_size=n).decision_function(w.images) for n in (3, 64))
    assert small == pytest.approx(large, rel=1e-5)
    for wrong in (0, "64", None):
        with pytest.raises(UsageError, match="batch_size out of range"):
            w.fitted(batch_size=wrong)


@yes("device=")
def _(w: World) -> None:
    w.fitted(device="cpu")
    assert str(w.calls[-1][1]) == "cpu"
    with pytest.raises(UsageError, match="device"):
        w.fitted(device="nowhere")


@yes("dtype=")
def _(w: World) -> None:
    w.fitted(device="cpu", dtype="bfloat16")
    assert str(w.calls[-1][2]) == "torch.bfloat16"


for name in (
    *("random_state", "n_jobs", "verbose", "class_weight", "warm_start"),
    *("tol", "max_iter", "estimator"),
):
    not_an_argument(name)

# ---- tags ----------------------------------------------------------------------------------------

TRUE = (
    *("requires_fit", "input_tags.one_d_array", "input_tags.three_d_array", "input_tags.string"),
    *("target_tags.required", "target_tags.single_output"),
    "classifier_tags.multi_class",
)
FALSE = (
    *("array_api_support", "no_validation", "non_deterministic", "_skip_test"),
    *("transformer_tags", "regressor_tags", "input_tags.two_d_array", "input_tags.sparse"),
    *("input_tags.categorical", "input_tags.dict", "input_tags.positive_only"),
    *("input_tags.allow_nan", "input_tags.pairwise", "target_tags.one_d_labels"),
    *(
        "target_tags.two_d_labels",
        "target_tags.positive_only",
        "target_tags.multi_output",
        "classifier_tags.poor_score",
    ),
    "classifier_tags.multi_label",
)


def tag(w: World, name: str) -> Any:
    value = get_tags(w.make())
    for part in name.split("."):
        value = getattr(value, part)
    return value


for name in TRUE:

    @yes(name)
    def _(w: World, name: str = name) -> None:
        assert tag(w, name) is True


for name in FALSE:

    @no(name)
    def _(w: World, name: str = name) -> None:
        assert not tag(w, name)


@yes("estimator_type")
def _(w: World) -> None:
    assert tag(w, "estimator_type") == "classifier"
