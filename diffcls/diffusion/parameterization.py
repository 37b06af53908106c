"""Parameterizations of a network's output (ε, x0, v, flow), losses and weightings over time.

Every parameterization is one row of a 2×2 linear system (v: Salimans and Ho 2022, appendix D):

    x_t = α·x0 + σ·ε          the forward process
    out = a·x0 + b·ε          the network's native output

    det = α·b − σ·a,   x0 = (b·x_t − σ·out)/det,   ε = (α·out − a·x_t)/det

so ``ε − ε̂ = (α/det)·(target − out)``: the scorer measures the residual of the native output, and
any other error is that residual times a scalar of the timestep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.schedule import NoiseSchedule, is_flow
from diffcls.support.errors import ModelError, UsageError, unknown_name

logger = logging.getLogger(__name__)

Coefficients = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Parameterization:
    """A parameterization: coefficients (a, b) of the native output as functions of (α, σ).

    All methods broadcast over NumPy arrays and torch tensors; alpha and sigma need a shape that
    broadcasts against the images.
    """

    name: str
    coefficients: Coefficients

    def det(self, alpha: Any, sigma: Any) -> Any:
        """det = α·b − σ·a; where it is 0 (ε at α = 0; v never) the output does not determine x0."""
        a, b = self.coefficients(alpha, sigma)
        return alpha * b - sigma * a

    def target(self, x0: Any, noise: Any, alpha: Any, sigma: Any) -> Any:
        """The regression target of the network: out = a·x0 + b·ε."""
        a, b = self.coefficients(alpha, sigma)
        return a * x0 + b * noise

    def to_x0(self, out: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
        """Estimate of the clean image: x0 = (b·x_t − σ·out)/det."""
        _, b = self.coefficients(alpha, sigma)
        return (b * x_t - sigma * out) / self.det(alpha, sigma)

    def to_noise(self, out: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
        """Estimate of the noise: ε = (α·out − a·x_t)/det."""
        a, _ = self.coefficients(alpha, sigma)
        return (alpha * out - a * x_t) / self.det(alpha, sigma)

    def noise_scale(self, alpha: Any, sigma: Any) -> Any:
        """|α/det|: factor from the native residual, out − target, to the ε-residual."""
        a, b = self.coefficients(alpha, sigma)
        # for a = 0 (an ε-network) the ratio is 1/b, also at α = 0, where α/det would be 0/0
        noise_only = 1.0 * (a == 0)
        det = self.det(alpha, sigma)
        rest = 1.0 - noise_only
        return abs((noise_only + rest * alpha) / (noise_only * b + rest * det))


# functions with names, so that a model in memory can be pickled
def _of_noise(alpha: Any, sigma: Any) -> tuple[Any, Any]:
    return 0.0 * alpha, 0.0 * alpha + 1.0


def _of_sample(alpha: Any, sigma: Any) -> tuple[Any, Any]:
    return 0.0 * alpha + 1.0, 0.0 * alpha


def _of_v(alpha: Any, sigma: Any) -> tuple[Any, Any]:
    return -sigma, alpha


def _of_flow(alpha: Any, sigma: Any) -> tuple[Any, Any]:
    return 0.0 * alpha - 1.0, 0.0 * alpha + 1.0


PARAMETERIZATIONS: Mapping[str, Parameterization] = {
    row.name: row
    for row in (
        Parameterization("epsilon", _of_noise),
        Parameterization("sample", _of_sample),
        Parameterization("v_prediction", _of_v),
        Parameterization("flow", _of_flow),
    )
}


def parameterization(name: str) -> Parameterization:
    """The parameterization of that name.

    Raises:
        UsageError: for an unknown name, with the allowed ones.
    """
    if name not in PARAMETERIZATIONS:
        raise unknown_name("prediction_type", name, PARAMETERIZATIONS)
    return PARAMETERIZATIONS[name]


def parameterization_of(config: Mapping[str, Any], class_name: str = "") -> Parameterization:
    """The parameterization of a model, from its diffusers scheduler config.

    Raises:
        ModelError: for an unknown prediction_type.
    """
    name = "flow" if is_flow(config, class_name) else str(config.get("prediction_type", "epsilon"))
    if name not in PARAMETERIZATIONS:
        raise ModelError(
            "prediction_type of the model's scheduler is not supported",
            given=name,
            allowed=PARAMETERIZATIONS,
        )
    return PARAMETERIZATIONS[name]


# loss of a residual -> name of its function in torch.nn.functional; huber as published, with δ = 1
LOSSES: Mapping[str, str] = {"l2": "mse_loss", "l1": "l1_loss", "huber": "huber_loss"}
BOUND_LOSSES: Mapping[str, bool] = {"vlb": False, "l2+vlb": True}
"""Losses with a learned variance's term of the variational bound, as in the published script for
DiT -> whether the mean squared ε-error is added to it; see
`diffcls.diffusion.bound.learned_step_kl`."""


def check_loss(loss: str, weighting: str) -> None:
    """Raise UsageError for a weighting of a loss that has the bound's own weights."""
    if loss in BOUND_LOSSES and weighting != "uniform":
        raise UsageError(
            f"--weighting cannot be combined with --loss {loss}",
            given=weighting,
            allowed="uniform: the terms of the bound have weights of their own",
            todo="remove --weighting, or choose --loss l2, l1 or huber",
        )


def _vlb(s: NoiseSchedule) -> NDArray[np.float64]:
    # L_{t−1} = β_t² / (2·β̃_t·(1 − β_t)·(1 − ᾱ_t)) · ‖ε − ε̂‖²   (Ho et al. 2020, eq. 12, σ_t² = β̃_t)
    #         = ½·(SNR(t−1)/SNR(t) − 1)·‖ε − ε̂‖²                  (Kingma et al. 2021, eq. 14)
    snr = s.snr
    # the step to the clean image has infinite SNR; its weight is replaced by the next one's
    weight = 0.5 * (snr[:-1] / snr[1:] - 1.0)
    return np.concatenate([weight[:1], weight])


WEIGHTINGS: Mapping[str, Callable[[NoiseSchedule], NDArray[np.float64]]] = {
    # weight on the ε-error at each index: (T,)
    "uniform": lambda s: np.ones(len(s)),
    "x0": lambda s: 1.0 / s.snr,
    "v": lambda s: 1.0 / s.alpha**2,
    "snr": lambda s: s.snr,
    "snr-clipped": lambda s: np.minimum(s.snr, 5.0),
    # max(SNR, 1) on the error of x0 (Salimans and Ho 2022, section 4)
    "truncated-snr": lambda s: np.maximum(1.0, 1.0 / s.snr),
    "vlb": _vlb,
}
OLD_NAMES = {"min-snr": "snr-clipped"}
"""Weightings renamed since 0.1, old name to new one: min-SNR (Hang et al. 2023) is a weighting of
the training loss, another formula, see `diffcls.training.losses`."""
LEARNED = "learned@"
"""Prefix of a learned weighting: ``learned@DATASET:LOG_SNR=LOG_WEIGHT,…``."""


def resolve_weighting(weighting: str) -> str:
    """The name of a weighting; logs a warning for one that was renamed."""
    if weighting in OLD_NAMES:
        logger.warning(
            "weighting %r is now named %r; use the new name", weighting, OLD_NAMES[weighting]
        )
    return OLD_NAMES.get(weighting, weighting)


def stored_weighting(weighting: str) -> str:
    """The name that run specs store: that of 0.1, so that fingerprints stay the same."""
    return next((old for old, new in OLD_NAMES.items() if new == weighting), weighting)


def check_weighting(weighting: str) -> None:
    """Raise UsageError for a weighting that is neither built in nor learned."""
    weighting = OLD_NAMES.get(weighting, weighting)
    if weighting.startswith(LEARNED):
        _learned_knots(weighting)
    elif weighting not in WEIGHTINGS:
        raise unknown_name("weighting", weighting, [*WEIGHTINGS, "FILE.json of replay --learn"])


def _learned_knots(weighting: str) -> NDArray[np.float64]:
    """(M, 2) log-SNR and log-weight of a learned weighting's knots, in order of log-SNR."""
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
            allowed=f"{LEARNED}DATASET:LOG_SNR=LOG_WEIGHT,… with increasing LOG_SNR",
        )
    return knots


def learned_weight(weighting: str, schedule: NoiseSchedule) -> NDArray[np.float64]:
    """(T,) weights of a learned weighting, whose log is piecewise linear in the log-SNR."""
    log_snr, log_weight = _learned_knots(weighting).T
    with np.errstate(divide="ignore"):  # a level without signal lies below all knots
        return np.exp(np.interp(np.log(schedule.snr), log_snr, log_weight))


def loss_weight(weighting: str, schedule: NoiseSchedule) -> NDArray[np.float64]:
    """(T,) float64 weights on the ε-error, scaled to mean 1 over the schedule.

    ``uniform`` is the published rule; ``x0`` and ``v`` give the errors of those targets
    (σ²/α² and 1/α² times the ε-error); ``vlb`` the terms of the variational bound;
    ``snr-clipped`` is min(SNR, 5). A level whose weight
    would be infinite, as the last of a schedule that ends without signal, has weight 0.

    Raises:
        UsageError: for an unknown weighting, with the allowed ones.
    """
    check_weighting(weighting)
    weighting = OLD_NAMES.get(weighting, weighting)
    with np.errstate(divide="ignore", invalid="ignore"):
        if weighting.startswith(LEARNED):
            weight = learned_weight(weighting, schedule)
        else:
            weight = WEIGHTINGS[weighting](schedule)
    # otherwise that one level would take all the weight, with an error independent of x0
    weight = np.where(np.isfinite(weight), weight, 0.0)
    return weight / weight.mean()
