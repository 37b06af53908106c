"""Noise schedules: the gains of signal and noise at each timestep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from diffcls.support.errors import ModelError, UsageError
from diffcls.support.types import Float64


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class NoiseSchedule:
    """Noise schedule: ``x_t = alpha[i] * x0 + sigma[i] * noise`` at index i; immutable, float64.

    Args:
        alpha: (T,) signal gain, in [0, 1].
        sigma: (T,) noise gain, in [0, 1], increasing with the index.
        timesteps: (T,) the time that the network receives as input at each index.

    Raises:
        UsageError: if the shapes differ, or a gain lies outside [0, 1].
    """

    alpha: Float64
    sigma: Float64
    timesteps: Float64

    def __post_init__(self) -> None:
        for name in ("alpha", "sigma", "timesteps"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shapes = {self.alpha.shape, self.sigma.shape, self.timesteps.shape}
        if len(shapes) != 1 or self.alpha.ndim != 1 or self.alpha.size == 0:
            raise UsageError(
                "alpha, sigma and timesteps do not match",
                given=sorted(shapes),
                allowed="three arrays of one shape (T,), T >= 1",
            )
        for name in ("alpha", "sigma"):
            array = getattr(self, name)
            if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
                raise UsageError(f"{name} out of range", allowed="finite values in [0, 1]")

    def __len__(self) -> int:
        return len(self.alpha)

    @property
    def snr(self) -> Float64:
        """(T,) signal-to-noise ratio (SNR) alpha²/sigma²; infinite where sigma is 0."""
        with np.errstate(divide="ignore"):
            return (self.alpha / self.sigma) ** 2

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> NoiseSchedule:
        """The variance-preserving chain of `betas` (T,) in (0, 1] (Ho et al. 2020, eq. 4)."""
        betas = np.asarray(betas, dtype=np.float64)
        if not (betas.size and (betas > 0).all() and (betas <= 1).all()):
            raise UsageError("betas out of range", allowed="one or more values in (0, 1]")
        # ᾱ_t = Π_{s<=t} (1 − β_s)
        return cls.from_alphas_cumprod(np.cumprod(1.0 - betas))

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: ArrayLike) -> NoiseSchedule:
        """``alpha = √ᾱ_t, sigma = √(1 − ᾱ_t)`` for ᾱ (T,) in [0, 1] (Ho et al. 2020, eq. 4)."""
        ac = np.asarray(alphas_cumprod, dtype=np.float64)
        if not (ac.size and (ac >= 0).all() and (ac <= 1).all()):
            raise UsageError("alphas_cumprod out of range", allowed="one or more values in [0, 1]")
        return cls(np.sqrt(ac), np.sqrt(1.0 - ac), np.arange(len(ac), dtype=np.float64))

    @classmethod
    def linear(
        cls,
        steps: int = 1000,
        start: float = 1e-4,
        end: float = 2e-2,
        rescale_zero_snr: bool = False,
    ) -> NoiseSchedule:
        """Linear schedule: β increases linearly from `start` to `end` (Ho et al. 2020, sec. 4)."""
        return cls._of_betas(np.linspace(start, end, steps), rescale_zero_snr)

    @classmethod
    def scaled_linear(
        cls,
        steps: int = 1000,
        start: float = 0.00085,
        end: float = 0.012,
        rescale_zero_snr: bool = False,
    ) -> NoiseSchedule:
        """Scaled linear schedule: √β increases linearly from √start to √end.

        Source: latent diffusion, Rombach et al. 2022.
        """
        return cls._of_betas(np.linspace(start**0.5, end**0.5, steps) ** 2, rescale_zero_snr)

    @classmethod
    def squared_cosine(
        cls, steps: int = 1000, max_beta: float = 0.999, rescale_zero_snr: bool = False
    ) -> NoiseSchedule:
        """Cosine schedule: ᾱ decreases as a squared cosine, with β <= `max_beta`.

            ᾱ_t = f(t/T)/f(0),    f(u) = cos²((u + s)/(1 + s)·π/2),    s = 0.008

        Source: Nichol and Dhariwal 2021, eq. 17.
        """

        def alpha_bar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = [
            min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), max_beta)
            for i in range(steps)
        ]
        return cls._of_betas(np.array(betas), rescale_zero_snr)

    @classmethod
    def rectified_flow(cls, steps: int = 1000, time_scale: float = 1000.0) -> NoiseSchedule:
        """Rectified flow: ``alpha = 1 − s, sigma = s``, s spread uniformly over (0, 1).

        Source: Liu et al. 2023. A sampler's shift is ignored on purpose: it sets the levels that a
        sampler visits, not those that the network was trained to predict.

        Args:
            steps: T, the number of levels; s_i = (i + ½)/T.
            time_scale: the network's time input is ``s * time_scale`` (SD 3: 1000, Flux: 1).
        """
        s = (np.arange(steps) + 0.5) / steps
        return cls(1.0 - s, s, s * time_scale)

    @classmethod
    def from_diffusers(
        cls, config: Mapping[str, Any], class_name: str = "", flow_time_scale: float = 1000.0
    ) -> NoiseSchedule:
        """The training schedule of a model, from any diffusers scheduler config.

        The sampler that a pipeline comes with does not matter, only its training noise.

        Args:
            config: the scheduler's config, as a mapping.
            class_name: the scheduler's class name, for a config without ``_class_name``.
            flow_time_scale: see `rectified_flow`.

        Raises:
            ModelError: for an unknown beta schedule, or a variance-exploding model.
        """
        if str(config.get("_class_name", class_name) or class_name).startswith("EDM"):
            raise ModelError(
                "variance-exploding models (EDM) are not supported",
                given=str(config.get("_class_name", class_name)),
                allowed="models with a beta schedule, and rectified flows",
            )
        if is_flow(config, class_name):
            return cls.rectified_flow(int(config.get("num_train_timesteps", 1000)), flow_time_scale)
        zero_snr = bool(config.get("rescale_betas_zero_snr", False))
        if config.get("snr_shift_scale") is not None:  # of CogView 3 and CogVideoX
            others = {"snr_shift_scale": None, "rescale_betas_zero_snr": False}
            plain = cls.from_diffusers({**config, **others}, class_name)
            return plain._with_snr_divided_by(float(config["snr_shift_scale"]), zero_snr)
        if config.get("trained_betas") is not None:
            return cls._of_betas(np.asarray(config["trained_betas"], dtype=np.float64), zero_snr)
        steps = int(config.get("num_train_timesteps", 1000))
        start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
        name = str(config.get("beta_schedule", "linear"))
        if name == "linear":
            return cls.linear(steps, start, end, zero_snr)
        if name == "scaled_linear":
            return cls.scaled_linear(steps, start, end, zero_snr)
        if name == "sigmoid":
            # β increases from start to end along a logistic curve over (−6, 6)
            curve = 1.0 / (1.0 + np.exp(-np.linspace(-6.0, 6.0, steps)))
            return cls._of_betas(start + (end - start) * curve, zero_snr)
        if name == "squaredcos_cap_v2":
            return cls.squared_cosine(steps, rescale_zero_snr=zero_snr)
        raise ModelError(
            "beta_schedule not supported",
            given=name,
            allowed=["linear", "scaled_linear", "sigmoid", "squaredcos_cap_v2", "trained_betas"],
        )

    @classmethod
    def _of_betas(cls, betas: Float64, rescale_zero_snr: bool) -> NoiseSchedule:
        schedule = cls.from_betas(betas)
        return schedule._rescaled_to_zero_snr() if rescale_zero_snr else schedule

    def _rescaled_to_zero_snr(self) -> NoiseSchedule:
        # √ᾱ'_t = (√ᾱ_t − √ᾱ_T) · √ᾱ_0/(√ᾱ_0 − √ᾱ_T)   (Lin et al. 2024, algorithm 1)
        root = self.alpha
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        return self.from_alphas_cumprod(root**2)

    def _with_snr_divided_by(self, scale: float, rescale_zero_snr: bool) -> NoiseSchedule:
        # SNR' = SNR/s, so ᾱ' = ᾱ/(s + (1 − s)·ᾱ)   (Esser et al. 2024, eq. 23)
        signal = self.alpha**2
        shifted = self.from_alphas_cumprod(signal / (scale + (1 - scale) * signal))
        return shifted._rescaled_to_zero_snr() if rescale_zero_snr else shifted


def is_flow(config: Mapping[str, Any], class_name: str = "") -> bool:
    """Whether a diffusers scheduler config belongs to a flow-matching model.

    diffusers builds a DDPM scheduler with ``epsilon`` prediction from such a config without a
    warning, so callers check for a flow first; every field that identifies one is read.
    """
    name = str(config.get("_class_name", class_name) or class_name)
    return (
        name.startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or bool(config.get("use_flow_sigmas", False))
    )
