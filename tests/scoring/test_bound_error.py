"""Errors by the variational bound: the arithmetic of guided diffusion, written independently."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_families import class_unet, loaded, saved
from torch import Tensor

from diffcls.diffusion.bound import gaussian_kl, learned_step_kl
from diffcls.diffusion.draws import DrawPlan
from diffcls.diffusion.process import learned_variance
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.families.pixel_unet import PixelUNetDenoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.scorer import Scorer
from diffcls.scoring.scoring import Scoring
from diffcls.support.errors import UsageError

INDICES = np.array([0, 1, 2, 30, 420, 700, 998, 999])


def guided_diffusion_errors(
    betas: np.ndarray, x0: Tensor, noise: Tensor, out: Tensor, t: int
) -> tuple[float, float]:
    """Mean squared error, and the bound's term in bits per dimension, of one image (C, h, w).

    From the definitions of ``GaussianDiffusion`` with LEARNED_RANGE and EPSILON, in double
    precision; `out` (2C, h, w) is the network's whole output.
    """
    x0, noise, out = x0.double(), noise.double(), out.double()
    bars = np.cumprod(1 - betas)
    before = np.append(1.0, bars[:-1])
    posterior = betas * (1 - before) / (1 - bars)
    clipped = np.append(posterior[1], posterior[1:])
    x_t = math.sqrt(bars[t]) * x0 + math.sqrt(1 - bars[t]) * noise
    eps, values = out.chunk(2)
    fraction = (values + 1) / 2
    log_variance = fraction * math.log(betas[t]) + (1 - fraction) * math.log(clipped[t])
    start = math.sqrt(1 / bars[t]) * x_t - math.sqrt(1 / bars[t] - 1) * eps
    of_start = betas[t] * math.sqrt(before[t]) / (1 - bars[t])
    of_x_t = (1 - before[t]) * math.sqrt(1 - betas[t]) / (1 - bars[t])
    q = torch.distributions.Normal(of_start * x0 + of_x_t * x_t, math.sqrt(clipped[t]))
    p = torch.distributions.Normal(of_start * start + of_x_t * x_t, (0.5 * log_variance).exp())
    bits = torch.distributions.kl_divergence(q, p) / math.log(2)
    return float(((noise - eps) ** 2).mean()), float(bits.mean())


def adm_unet() -> PixelUNetDenoiser:
    from diffusers import DDPMScheduler, UNet2DModel

    from diffcls.models.denoiser import ModelCard

    with torch.random.fork_rng():
        torch.manual_seed(1)
        pipeline = class_unet()
        config = {**pipeline.unet.config, "out_channels": 6}
        pipeline.unet = UNet2DModel.from_config(config)
    pipeline.scheduler = DDPMScheduler(variance_type="learned_range")
    return PixelUNetDenoiser(pipeline, ModelCard("adm", "1", labels=tuple("abcdefghij")))


def model_of(name: str, base: Path) -> Any:
    return adm_unet() if name == "adm" else loaded(saved(name, base))


@pytest.mark.parametrize("name", ["dit", "pixart", "adm"])
def test_bound_equals_guided_diffusions(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = model_of(name, tmp_path_factory.getbasetemp())
    betas = model.pipeline.scheduler.betas.double().numpy()
    prompts = ["three", "a photo of zero"] if model.labels is None else ["3", "0"]
    cond, plan = model.encode_prompts(prompts), DrawPlan(INDICES, seed=3)
    x0 = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(0))
    losses = ("l2", "vlb", "l2+vlb")
    scorers = {loss: Scorer(model, cond, plan, Scoring(loss), batch_size=8) for loss in losses}
    alpha, sigma = model.schedule.alpha, model.schedule.sigma
    for image in range(2):
        for prompt in range(2):
            rows, repeated = torch.full((8,), prompt), x0[image].expand(8, -1, -1, -1)
            ours = {k: s.errors(repeated, rows, range(8)).tolist() for k, s in scorers.items()}
            for j, t in enumerate(INDICES.tolist()):
                noise, row = scorers["vlb"].noise[j], cond.rows(torch.tensor([prompt]))
                x_t = float(alpha[t]) * x0[image] + float(sigma[t]) * noise
                with torch.no_grad():
                    out = model._forward(x_t[None], model._timesteps[[t]], row)[0]
                mse, bits = guided_diffusion_errors(betas, x0[image], noise, out, t)
                assert ours["l2"][j] == pytest.approx(mse, rel=1e-4)
                assert ours["vlb"][j] == pytest.approx(bits, rel=1e-3, abs=1e-6)
                assert ours["l2+vlb"][j] == pytest.approx(mse + bits, rel=1e-3)


def test_bound_is_zero_where_the_models_step_is_the_posterior() -> None:
    small, large = torch.tensor(0.01), torch.tensor(0.02)
    none = torch.zeros(3)
    assert learned_step_kl(none, none, small, large).tolist() == [0, 0, 0]
    # ½·(e^{−r} − 1 + r) for v = 1, r = log 2, and gap²·e^{−r}/(2β̃)
    expected = 0.5 * (0.5 - 1 + math.log(2)) + 0.1**2 * 0.5 / (2 * 0.01)
    ours = learned_step_kl(torch.tensor(0.1), torch.tensor(1.0), small, large)
    assert float(ours) == pytest.approx(expected, rel=1e-6)


def test_bound_equals_the_general_formula_of_two_gaussians() -> None:
    rng = torch.Generator().manual_seed(0)
    gap, mixture = torch.randn(50, generator=rng).double(), torch.rand(50, generator=rng).double()
    small, large = torch.tensor(0.003).double(), torch.tensor(0.004).double()
    variance = learned_variance(mixture, small, large)
    general = gaussian_kl(gap, small, torch.zeros_like(gap), variance)
    assert torch.allclose(learned_step_kl(gap, mixture, small, large), general, rtol=1e-9)


def test_model_without_a_learned_variance_is_refused_by_name() -> None:
    means = {"a": torch.zeros(1, 4, 4), "b": torch.ones(1, 4, 4)}
    model = GaussianDenoiser(means, schedule=NoiseSchedule.scaled_linear())
    cond, plan = model.encode_prompts(["a", "b"]), DrawPlan(INDICES)
    for loss in ("vlb", "l2+vlb"):
        refusal = (
            rf"--loss {loss.replace('+', '.')} needs a model with a learned variance: 'gaussian'"
        )
        with pytest.raises(UsageError, match=refusal):
            Scorer(model, cond, plan, Scoring(loss))


@pytest.mark.parametrize("name", ["sd1", "class_unet"])
def test_other_families_have_no_bound(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = loaded(saved(name, tmp_path_factory.getbasetemp()))
    assert not model.learns_variance
    prompts = ["a", "b"] if model.labels is None else ["0", "1"]
    with pytest.raises(UsageError, match="needs a model with a learned variance"):
        Scorer(model, model.encode_prompts(prompts), DrawPlan(INDICES), Scoring("vlb"))


def test_bound_has_weights_of_its_own() -> None:
    with pytest.raises(UsageError, match="--weighting cannot be combined with --loss vlb: 'snr'"):
        Scoring("vlb", "snr")
    assert Scoring("vlb").loss == "vlb"
    with pytest.raises(
        UsageError, match=r"unknown loss: 'l3'; allowed: l2, l1, huber, vlb, l2.vlb"
    ):
        Scoring("l3")
