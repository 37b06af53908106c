"""Learned weighting over time: fitted on labelled error tables, stored as a JSON file.

The log-weight is piecewise linear in the logarithm of the signal-to-noise ratio (log-SNR), so a
weighting fitted on one model and data set can be applied to others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.parameterization import LEARNED, check_weighting
from diffcls.support.errors import DataError, UsageError
from diffcls.support.types import Float64

KNOTS = 7
"""Knots of the piecewise linear log-weight, at quantiles of the draws' log-SNR."""


def read_weighting(path: str | Path) -> str:
    """The weighting in a file, as the text that options and fingerprint contain.

    Raises:
        UsageError: for a file that is missing or contains no weighting.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        # the first colon ends the name, so a colon in a data set's name is replaced
        learned_on = str(stored["learned_on"]).replace(":", "/")
        weighting = f"{LEARNED}{learned_on}:{stored['knots']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"cannot read a weighting ({error})",
            given=str(path),
            allowed="a file that `python -m diffcls.replay DIR --learn FILE` wrote",
        ) from error
    check_weighting(weighting)
    return weighting


def learn_weighting(
    tables: Sequence[NDArray[np.floating]],
    labels: Sequence[int],
    log_snr: Float64,
    learned_on: str,
) -> dict[str, str]:
    """Maximum a posteriori fit of a weighting: multinomial logistic regression on weighted errors.

        max Σ_i log softmax_k(−Σ_n w(λ_n)·e_{ikn})[label_i] − ½·‖θ − mean(θ)‖²/10

    with log w piecewise linear in λ and θ its values at the knots; the mean of θ acts as the
    posterior's inverse temperature. Optimised by L-BFGS.

    Args:
        tables: (K, N) error tables without NaN, one per image.
        labels: class index of each image.
        log_snr: (N,) λ = log(α²/σ²) of each draw.
        learned_on: data set and split, recorded as the weighting's name.

    Returns:
        the content of the JSON file: ``learned_on``, and ``knots`` as ``λ=log-weight,…``.

    Raises:
        DataError: for tables with errors that were not evaluated, that do not differ between
            classes, or whose draws have too few noise levels to place the knots.
    """
    from scipy import optimize, special

    stacked = np.stack([table.astype(np.float64) for table in tables])  # (n, K, N)
    if not np.isfinite(stacked).all():
        raise DataError(
            "--learn: error tables are incomplete",
            allowed="tables with every class and draw evaluated",
            todo="save them with --search exhaustive --save-errors DIR",
        )
    # the softmax is invariant to what all classes have in common
    stacked = stacked - stacked.mean(axis=1, keepdims=True)
    unit = stacked.std() / stacked.shape[2]
    # rounded to the digits that the file stores
    place = np.array([float(f"{p:.4g}") for p in np.quantile(log_snr, np.linspace(0, 1, KNOTS))])
    if not unit or not (np.diff(place) > 0).all():
        raise DataError(
            "--learn: error tables do not determine a weighting",
            given=f"{stacked.shape[2]} draws, standard deviation of errors {unit:.3g}",
            allowed=f"errors that differ between classes, at {KNOTS} noise levels or more",
            todo="save tables of more draws",
        )
    # (N, M) interpolation weight of each knot in each draw
    share = np.stack([np.interp(log_snr, place, row) for row in np.eye(KNOTS)], axis=1)
    rows, truth = np.arange(len(labels)), np.array(labels)

    def loss(theta: Float64) -> tuple[float, Float64]:
        weight = np.exp(share @ theta)
        logits = -(stacked @ weight) / (unit * stacked.shape[2])
        log_p = special.log_softmax(logits, axis=1)
        p = np.exp(log_p)
        p[rows, truth] -= 1
        # d/dw of −log-likelihood: Σ_ik (p − y)·(−e)
        gradient = -np.einsum("ik,ikn->n", p, stacked) / (unit * stacked.shape[2])
        centred = theta - theta.mean()
        value = -log_p[rows, truth].sum() + 0.05 * (centred**2).sum()
        return float(value), share.T @ (gradient * weight) + 0.1 * centred

    result = optimize.minimize(loss, np.zeros(KNOTS), jac=True, method="L-BFGS-B")
    theta = result.x - result.x.mean()
    knots = ",".join(f"{a:.4g}={b:.4g}" for a, b in zip(place, theta, strict=True))
    return {"learned_on": learned_on, "knots": knots}
