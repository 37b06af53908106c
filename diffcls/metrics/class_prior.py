"""Class priors: a bias of the classes from unlabelled images, and a product of two classifiers.

Pure functions of arrays; n is the number of images, K that of classes. Both amount to a prior that
Bayes' rule adds to the log-likelihoods of a diffusion classifier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from diffcls.metrics.validation import floats, same_length
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64

PRIOR_STRENGTH = 20.0
"""Precision of the normal prior on each class's bias, a standard deviation of 0.22 in log-odds.

Chosen on validation images of cifar10: classes are never exactly balanced in a sample.
"""


def match_prior(log_likelihoods: ArrayLike, strength: float = PRIOR_STRENGTH) -> Float64:
    """Log-prior of each class at which every class has its share of unlabelled images.

    If the classes are equally frequent, the mean posterior of a calibrated classifier over many
    images is 1/K for each (law of total probability). A model whose log-likelihood of class k is
    too high by c_k on every image violates that; the bias b = −c restores it:

        (1/n)·Σ_i P(k | x_i) = 1/K,    P(k | x) ∝ exp(ℓ_k(x) + b_k)                          (1)

    It is the reverse of the estimate of a prior from a classifier's posteriors (Saerens et al.
    2002), where the model is trusted and the prior is unknown. b is unique but for a constant,
    being the minimum of a convex function whose gradient is (1),

        Σ_i log Σ_k exp(ℓ_k(x_i) + b_k) − (n/K)·Σ_k b_k + (λ/2)·Σ_k b_k²                     (2)

    with λ > 0, a normal prior on b, so that it is finite where a class is never predicted.

    Args:
        log_likelihoods: (n, K) ℓ of unlabelled images, but for a constant of each image; −inf for a
            class that was never scored.
        strength: λ, above 0.

    Returns:
        (K,) b, of mean 0.

    Raises:
        UsageError: for values that are NaN, or an image without a finite one.
    """
    from scipy import optimize, special

    ell = floats("log-likelihoods", log_likelihoods, 2)
    if not strength > 0:
        raise UsageError("strength out of range", given=strength, allowed="above 0")
    if not np.isfinite(ell.max(axis=1)).all():
        raise UsageError("an image has no finite log-likelihood")
    n, classes = ell.shape
    ell = ell - ell.max(axis=1, keepdims=True)

    def loss(b: Float64) -> tuple[float, Float64]:
        logits = ell + b
        norm = special.logsumexp(logits, axis=1)
        value = norm.sum() - n / classes * b.sum() + strength / 2 * (b @ b)
        mean_posterior = np.exp(logits - norm[:, None]).sum(axis=0)
        return float(value), mean_posterior - n / classes + strength * b

    result = optimize.minimize(
        loss, np.zeros(classes), jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-8}
    )
    bias: Float64 = result.x - result.x.mean()
    return bias


@dataclass(frozen=True)
class Product:
    """Exponents of a product of two classifiers' posteriors.

    Args:
        own: a, factor of the first one's log-likelihoods, above 0.
        other: w, factor of the second one's log-probabilities, above 0.
    """

    own: float
    other: float


def fit_product(log_likelihoods: ArrayLike, log_other: ArrayLike, labels: ArrayLike) -> Product:
    """Exponents of a product of two classifiers, of maximum posterior on labelled images.

        P(k | x) ∝ exp(a·ℓ_k(x)) · P'(k | x)^w

    With a = w = 1 it is Bayes' rule for two observations that are independent given the class; two
    models of the same image are not, and either may be overconfident, which exponents below 1
    express (a logarithmic opinion pool, Genest and Zidek 1986). log a and log w have a standard
    normal prior, so that both are finite where all images are classified correctly.

    Args:
        log_likelihoods: (n, K) ℓ, but for a constant of each image; −inf for a class that was never
            scored.
        log_other: (n, K) log P', finite.
        labels: (n,) class indices.

    Raises:
        UsageError: for shapes that differ.
    """
    from scipy import optimize, special

    ell, log_p = floats("log-likelihoods", log_likelihoods, 2), floats("log P'", log_other, 2)
    truth = np.asarray(labels)
    same_length("log-likelihoods", ell, "log P'", log_p)
    same_length("log-likelihoods", ell, "labels", truth)
    ell = ell - ell.max(axis=1, keepdims=True)
    rows = np.arange(len(truth))

    def loss(theta: Float64) -> float:
        a, w = np.exp(theta)
        logits = a * ell + w * log_p
        right = logits[rows, truth]
        # a class that the race never scored has no finite likelihood
        missed = np.where(np.isfinite(right), right - special.logsumexp(logits, axis=1), -50.0)
        return float(-missed.sum() + theta @ theta / 2)

    best = optimize.minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6})
    a, w = np.exp(best.x)
    return Product(float(a), float(w))
