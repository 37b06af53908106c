"""Class priors: matching agrees with iterative scaling, and products with Bayes' rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from diffcls.metrics.class_prior import fit_product, match_prior
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64

ALMOST_NONE = 1e-7
"""Strength of a prior that changes no digit that is compared."""
seeds = st.integers(0, 2**32 - 1)


def log_likelihoods(seed: int, images: int = 60, classes: int = 5) -> Float64:
    return np.random.default_rng(seed).normal(0, 2, (images, classes))


def iterative_scaling(ell: Float64) -> Float64:
    """b by iterative proportional fitting: the columns of the posteriors, then their rows."""
    classes = ell.shape[1]
    b = np.zeros(classes)
    for _ in range(5000):
        share = special.softmax(ell + b, axis=1).mean(axis=0)
        b -= np.log(share * classes)
    return b - b.mean()


@given(seeds)
def test_every_class_has_its_share_of_the_images(seed: int) -> None:
    ell = log_likelihoods(seed)
    share = special.softmax(ell + match_prior(ell, ALMOST_NONE), axis=1).mean(axis=0)
    assert share == pytest.approx(np.full(5, 0.2), abs=1e-5)


def test_bias_is_that_of_iterative_scaling() -> None:
    ell = log_likelihoods(3)
    assert match_prior(ell, ALMOST_NONE) == pytest.approx(iterative_scaling(ell), abs=1e-4)


@given(seeds)
def test_bias_of_the_model_is_taken_off(seed: int) -> None:
    """A model that adds c_k to class k on every image gets the posteriors of one that does not."""
    ell = log_likelihoods(seed)
    c = np.random.default_rng([seed, 1]).normal(0, 1, 5)
    without = ell + match_prior(ell, ALMOST_NONE)
    corrected = ell + c + match_prior(ell + c, ALMOST_NONE)
    assert special.softmax(corrected, axis=1) == pytest.approx(
        special.softmax(without, axis=1), abs=1e-4
    )


@given(seeds)
def test_constant_of_an_image_and_order_of_the_images_change_nothing(seed: int) -> None:
    ell, rng = log_likelihoods(seed), np.random.default_rng([seed, 2])
    other = (ell + rng.normal(0, 9, (len(ell), 1)))[rng.permutation(len(ell))]
    assert match_prior(other) == pytest.approx(match_prior(ell), abs=1e-5)


def test_bias_is_that_of_the_normal_prior_where_all_images_tell_nothing() -> None:
    assert match_prior(np.zeros((7, 4))) == pytest.approx(np.zeros(4), abs=1e-9)


def test_class_that_is_never_scored_has_a_finite_bias() -> None:
    ell = log_likelihoods(0)
    ell[:, 0] = -np.inf
    bias = match_prior(ell)
    assert np.isfinite(bias).all() and bias[0] == bias.max()


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UsageError, match="no finite log-likelihood"):
        match_prior([[0.0, 1.0], [-np.inf, -np.inf]])
    with pytest.raises(UsageError, match="strength out of range"):
        match_prior([[0.0, 1.0]], 0.0)
    with pytest.raises(UsageError, match="differ in length"):
        fit_product([[0.0, 1.0]], [[0.0, 1.0]], [0, 1])


@pytest.mark.parametrize(("own", "other"), [(1.0, 1.0), (0.5, 2.0), (1.5, 0.3)])
def test_exponents_are_those_that_labels_were_drawn_with(own: float, other: float) -> None:
    rng = np.random.default_rng(0)
    ell = rng.normal(0, 1.5, (6000, 4))
    log_p = special.log_softmax(rng.normal(0, 1.5, ell.shape), axis=1)
    p = special.softmax(own * ell + other * log_p, axis=1)
    labels = (p.cumsum(axis=1) > rng.random((len(p), 1))).argmax(axis=1)
    product = fit_product(ell, log_p, labels)
    assert product.own == pytest.approx(own, rel=0.1)
    assert product.other == pytest.approx(other, rel=0.15)


def test_model_that_knows_nothing_keeps_the_exponent_of_bayes() -> None:
    ell = log_likelihoods(1)
    labels = ell.argmax(axis=1)
    uniform = np.full(ell.shape, -np.log(5))
    assert fit_product(ell, uniform, labels).other == pytest.approx(1.0, abs=1e-2)
    assert fit_product(np.zeros(ell.shape), ell, labels).own == pytest.approx(1.0, abs=1e-2)


def test_exponents_are_finite_where_every_image_is_classified_correctly() -> None:
    ell = 50 * np.eye(4)
    product = fit_product(ell, special.log_softmax(ell, axis=1), range(4))
    assert 0 < product.own < 20 and 0 < product.other < 20
