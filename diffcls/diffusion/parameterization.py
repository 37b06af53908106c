"""What a network predicts: every family is one row of a 2×2 system.

    x_t = α·x0 + σ·ε          the forward process
    out = a·x0 + b·ε          the network's native output

    det = α·b − σ·a,   x0 = (b·x_t − σ·out)/det,   ε = (α·out − a·x_t)/det

so ``ε − ε̂ = (α/det)·(target − out)``: one scorer measures the native residual, and every other
error is that residual times a scalar of the timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.schedule import NoiseSchedule, is_flow
from diffcls.support.errors import ModelError, UsageError, unknown_name

Coefficients = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Parameterization:
    """One row of the table: the coefficients (a, b) of the native output as functions of (α, σ).

    All methods broadcast over numpy arrays and torch tensors alike; alpha and sigma must
    already have a shape that broadcasts against the images.
    """

    name: str
    coefficients: Coefficients

    def det(self, alpha: Any, sigma: Any) -> Any:
        """det = α·b − σ·a; where it is 0 (v at no level, ε at α = 0) the output does not fix x0."""
        a, b = self.coefficients(alpha, sigma)
        return alpha * b - sigma * a

    def target(self, x0: Any, noise: Any, alpha: Any, sigma: Any) -> Any:
        """out = a·x0 + b·ε: what a perfect network would return."""
        a, b = self.coefficients(alpha, sigma)
        return a * x0 + b * noise

    def to_x0(self, out: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
        """x0 = (b·x_t − σ·out)/det."""
        _, b = self.coefficients(alpha, sigma)
        return (b * x_t - sigma * out) / self.det(alpha, sigma)

    def to_noise(self, out: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
        """ε = (α·out − a·x_t)/det."""
        a, _ = self.coefficients(alpha, sigma)
        return (alpha * out - a * x_t) / self.det(alpha, sigma)

    def noise_scale(self, alpha: Any, sigma: Any) -> Any:
        """|α/det|: the ε-residual is this times the native residual, out − target."""
        a, b = self.coefficients(alpha, sigma)
        # where a = 0 (an ε-network) the ratio is 1/b, also at α = 0, where α/det would be 0/0
        only = 1.0 * (a == 0)
        det = self.det(alpha, sigma)
        return abs((only + (1.0 - only) * alpha) / (only * b + (1.0 - only) * det))


PARAMETERIZATIONS: Mapping[str, Parameterization] = {
    row.name: row
    for row in (
        Parameterization("epsilon", lambda alpha, sigma: (0.0 * alpha, 0.0 * alpha + 1.0)),
        Parameterization("sample", lambda alpha, sigma: (0.0 * alpha + 1.0, 0.0 * alpha)),
        Parameterization("v_prediction", lambda alpha, sigma: (-sigma, alpha)),
        Parameterization("flow", lambda alpha, sigma: (0.0 * alpha - 1.0, 0.0 * alpha + 1.0)),
    )
}


def parameterization(name: str) -> Parameterization:
    """The row called `name`.

    Raises:
        UsageError: for an unknown name, with the allowed ones.
    """
    if name not in PARAMETERIZATIONS:
        raise unknown_name("prediction_type", name, PARAMETERIZATIONS)
    return PARAMETERIZATIONS[name]


def parameterization_of(config: Mapping[str, Any], class_name: str = "") -> Parameterization:
    """The row of a model, from its diffusers scheduler config.

    Raises:
        ModelError: for a prediction_type that is not known.
    """
    name = "flow" if is_flow(config, class_name) else str(config.get("prediction_type", "epsilon"))
    if name not in PARAMETERIZATIONS:
        raise ModelError(
            "prediction_type of the model's scheduler not supported",
            given=name,
            allowed=PARAMETERIZATIONS,
        )
    return PARAMETERIZATIONS[name]


# the loss of a residual -> its function in torch.nn.functional; huber as published, with δ = 1
LOSSES: Mapping[str, str] = {"l2": "mse_loss", "l1": "l1_loss", "huber": "huber_loss"}


def _vlb(s: NoiseSchedule) -> NDArray[np.float64]:
    # L_{t−1} = β_t² / (2·β̃_t·(1 − β_t)·(1 − ᾱ_t)) · ‖ε − ε̂‖²   (Ho et al. 2020, eq. 12, σ_t² = β̃_t)
    #         = ½·(SNR(t−1)/SNR(t) − 1)·‖ε − ε̂‖²                  (Kingma et al. 2021, eq. 14)
    snr = s.snr
    # the step below the first is the clean image; its term is replaced by the next one's
    weight = 0.5 * (snr[:-1] / snr[1:] - 1.0)
    return np.concatenate([weight[:1], weight])


WEIGHTINGS: Mapping[str, Callable[[NoiseSchedule], NDArray[np.float64]]] = {
    # weight on the ε-error at each index: (T,)
    "uniform": lambda s: np.ones(len(s)),
    "x0": lambda s: 1.0 / s.snr,
    "v": lambda s: 1.0 / s.alpha**2,
    "snr": lambda s: s.snr,
    "min-snr": lambda s: np.minimum(s.snr, 5.0),
    # max(SNR, 1) on the error of x0 (Salimans and Ho 2022, section 4)
    "truncated-snr": lambda s: np.maximum(1.0, 1.0 / s.snr),
    "vlb": _vlb,
}
LEARNED = "learned@"
"""Begins the name of a learned weighting: ``learned@WHERE:LAMBDA=WEIGHT,…``."""


def check_weighting(weighting: str) -> None:
    """Raises UsageError for a weighting that is neither known nor learned."""
    if weighting.startswith(LEARNED):
        _learned_knots(weighting)
    elif weighting not in WEIGHTINGS:
        raise unknown_name("weighting", weighting, [*WEIGHTINGS, "FILE.json of replay --learn"])


def _learned_knots(weighting: str) -> NDArray[np.float64]:
    """(M, 2) log-SNR and log-weight of a learned weighting's knots, by rising log-SNR."""
    try:
        pairs = weighting.partition(":")[2].split(",")
        knots = np.array([[float(part) for part in pair.split("=")] for pair in pairs])
        good = knots.shape[1] == 2 and bool(np.isfinite(knots).all())
        good = good and bool((np.diff(knots[:, 0]) > 0).all())
    except (ValueError, IndexError):
        good = False
    if not good:
        raise UsageError(
            "cannot read a learned weighting",
            given=weighting,
            allowed=f"{LEARNED}WHERE:LAMBDA=LOG_WEIGHT,… with LAMBDA rising",
        )
    return knots


def learned_weight(weighting: str, schedule: NoiseSchedule) -> NDArray[np.float64]:
    """(T,) weights, exp of a line from knot to knot in the log of the signal-to-noise ratio."""
    place, weight = _learned_knots(weighting).T
    with np.errstate(divide="ignore"):  # a level without signal lies below all knots
        return np.exp(np.interp(np.log(schedule.snr), place, weight))


def loss_weight(weighting: str, schedule: NoiseSchedule) -> NDArray[np.float64]:
    """(T,) float64 weights on the ε-error, scaled to mean 1 over the schedule.

    ``uniform`` is the published rule; ``x0`` and ``v`` give the errors of those targets
    (σ²/α² and 1/α² times the ε-error); ``vlb`` the terms of the variational bound; ``min-snr``
    clips the signal-to-noise ratio at 5 (Hang et al. 2023, on the ε-error). A level whose weight
    would be infinite, as the last of a schedule that ends without signal, weighs nothing.

    Raises:
        UsageError: for an unknown weighting, with the allowed ones.
    """
    check_weighting(weighting)
    with np.errstate(divide="ignore", invalid="ignore"):
        if weighting.startswith(LEARNED):
            weight = learned_weight(weighting, schedule)
        else:
            weight = WEIGHTINGS[weighting](schedule)
    # else that one level would take all the weight, for an error that says nothing of x0
    weight = np.where(np.isfinite(weight), weight, 0.0)
    return weight / weight.mean()
