"""A weighting over time that was learned on labelled error tables, and the file that keeps it.

The log-weight is a line from knot to knot in the log of the signal-to-noise ratio, so what was
learned on one model and data set can be fixed and used on others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.parameterization import LEARNED, check_weighting
from diffcls.support.errors import DataError, UsageError

KNOTS = 7


def read_weighting(path: str | Path) -> str:
    """The weighting of a file, in the form that the options and the fingerprint hold.

    Raises:
        UsageError: for a file that is missing or holds no weighting.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        # the first colon ends the name, and that of a data set may have one
        learned_on = str(stored["learned_on"]).replace(":", "/")
        weighting = f"{LEARNED}{learned_on}:{stored['knots']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
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
    log_snr: NDArray[np.float64],
    learned_on: str,
) -> dict[str, str]:
    """The knots whose weighted mean errors make the labels likeliest.

        max Σ_i log softmax_k(−Σ_n w(λ_n)·e_{ikn})[label_i] − ½·‖θ − mean(θ)‖²/10

    with log w linear between knots θ; its overall size is the posterior's temperature. By L-BFGS.

    Args:
        tables: (K, N) error tables without NaN.
        labels: the class index of each.
        log_snr: (N,) λ of each draw, log(α²/σ²).
        learned_on: data set and split, for the name.

    Raises:
        DataError: for tables with errors that were not evaluated, that do not tell classes apart,
            or whose draws have too few levels of noise to place the knots.
    """
    from scipy import optimize, special

    stacked = np.stack([table.astype(np.float64) for table in tables])  # (n, K, N)
    if not np.isfinite(stacked).all():
        raise DataError(
            "a weighting is learned from full tables only",
            todo="save them with --search exhaustive --save-errors DIR",
        )
    # what all classes share says nothing
    stacked = stacked - stacked.mean(axis=1, keepdims=True)
    unit = stacked.std() / stacked.shape[2]
    # as many digits as the file keeps
    place = np.array([float(f"{p:.4g}") for p in np.quantile(log_snr, np.linspace(0, 1, KNOTS))])
    if not unit or not (np.diff(place) > 0).all():
        raise DataError(
            "there is nothing to learn a weighting from",
            given=f"{stacked.shape[2]} draws, errors that differ by {unit:.3g}",
            todo="save tables of more draws",
        )
    # (N, M) share of each knot in each draw
    share = np.stack([np.interp(log_snr, place, row) for row in np.eye(KNOTS)], axis=1)
    rows, truth = np.arange(len(labels)), np.array(labels)

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = np.exp(share @ theta)
        logits = -(stacked @ weight) / (unit * stacked.shape[2])
        likely = special.log_softmax(logits, axis=1)
        p = np.exp(likely)
        p[rows, truth] -= 1
        # d/dw of −log-likelihood: Σ_ik (p − y)·(−e)
        slope = -np.einsum("ik,ikn->n", p, stacked) / (unit * stacked.shape[2])
        centred = theta - theta.mean()
        value = -likely[rows, truth].sum() + 0.05 * (centred**2).sum()
        return float(value), share.T @ (slope * weight) + 0.1 * centred

    found = optimize.minimize(loss, np.zeros(KNOTS), jac=True, method="L-BFGS-B")
    theta = found.x - found.x.mean()
    knots = ",".join(f"{a:.4g}={b:.4g}" for a, b in zip(place, theta, strict=True))
    return {"learned_on": learned_on, "knots": knots}
