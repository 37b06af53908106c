"""Error gradients in the prompts: closed forms, finite differences, half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fake_cuda import INDICES, PROMPTS
from helpers.gaussian_prompts import NAMES, SCALE, SHAPE, gaussian, latents, scorer_of
from helpers.tiny_families import FAMILIES, loaded, saved
from torch import Tensor

from diffcls.data.prompts import PromptSet
from diffcls.diffusion.draws import noise
from diffcls.diffusion.parameterization import PARAMETERIZATIONS
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.scorer import GRADIENT_BATCH_PARTS
from diffcls.scoring.scoring import Scoring
from diffcls.search.embeddings import Points
from diffcls.support.errors import UsageError

Pipelines = Callable[[str], Path]


@pytest.fixture(scope="module")
def v_model(tiny_pipeline: Pipelines) -> Denoiser:
    return loading.load(str(tiny_pipeline("v_prediction")))


def closed_form(
    model: GaussianDenoiser, x0: Tensor, mean: Tensor, draw: int
) -> tuple[Tensor, Tensor]:
    """e = ‖ε̂ − ε‖²/D and ∂e/∂μ = 2(ε̂ − ε)·(−σα/v)/D, with ε̂ = σ(x_t − αμ)/v, v = α²s² + σ²."""
    alpha, sigma = (float(g[INDICES[draw]]) for g in (model.schedule.alpha, model.schedule.sigma))
    eps, x0, mean = noise(0, draw, x0.shape).double(), x0.double(), mean.double()
    v = alpha**2 * SCALE**2 + sigma**2
    residual = sigma * (alpha * x0 + sigma * eps - alpha * mean) / v - eps
    return (residual**2).mean(), -2 * residual * sigma * alpha / v / residual.numel()


@pytest.mark.parametrize("prediction_type", PARAMETERIZATIONS)
def test_gradients_of_a_gaussian_equal_their_closed_form(prediction_type: str) -> None:
    model = gaussian(prediction_type=prediction_type)
    scorer, x0 = scorer_of(model, tuple(NAMES)), latents(5)
    points = Conditioning({"mean": latents(5) * 0.7})
    draws = [0, 6, 2, 3, 1]
    errors, gradients = scorer.gradients(x0, points, draws)
    assert list(gradients) == ["mean"] and gradients["mean"].shape == (5, *SHAPE)
    assert gradients["mean"].dtype == errors.dtype == torch.float32
    assert not errors.requires_grad and not gradients["mean"].requires_grad
    for i, draw in enumerate(draws):
        error, slope = closed_form(model, x0[i], points["mean"][i], draw)
        # float32 in a subtraction of numbers about 1; at the first timesteps ε̂ is divided by σ
        torch.testing.assert_close(errors[i].double(), error, rtol=1e-4, atol=1e-5)
        scale = float(slope.abs().max())
        torch.testing.assert_close(
            gradients["mean"][i].double(), slope, rtol=1e-4, atol=1e-4 * scale
        )


@pytest.mark.parametrize("loss", ["l2", "l1", "huber"])
def test_gradients_of_a_network_equal_finite_differences(v_model: Denoiser, loss: str) -> None:
    scorer = scorer_of(v_model, tuple(PROMPTS), scoring=Scoring(loss, "snr"))
    x0 = v_model.encode_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    x0 = x0.expand(2, -1, -1, -1)
    middle = Conditioning({"text": scorer.cond["text"].mean(dim=0, keepdim=True)})
    for draw in (2, 4, 6):
        _, gradients = scorer.gradients(x0[:1], middle, [draw])
        slope = gradients["text"]
        step = 0.05 * slope / slope.norm()
        ends = Conditioning({"text": torch.cat([middle["text"] + step, middle["text"] - step])})
        ahead, back = scorer.errors_at(x0, ends, [draw, draw]).double().tolist()
        result = (ahead - back) / 0.1
        # the derivative along the gradient is its norm, up to the third derivative
        assert result == pytest.approx(float(slope.norm()), rel=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_gradients_in_all_its_conditioning(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = loaded(saved(name, tmp_path_factory.getbasetemp()))
    if model.labels is not None:
        with pytest.raises(UsageError, match="class-conditional"):
            Points(PromptSet.from_templates(["0", "1"], ["{}"]), model.encode_prompts(["0", "1"]))
        return
    prompts = PromptSet.from_templates(PROMPTS, ["{}"])
    scorer = scorer_of(model, prompts.prompts, batch_size=2)
    middle = Points(prompts, scorer.cond).at([(0, 1, 2)])
    x0 = latents(1, model.sample_shape)
    errors, slopes = scorer.gradients(x0, middle, [2])
    alone = scorer_of(model, prompts.prompts, batch_size=1)  # the shape of a part of that batch
    assert torch.equal(errors, alone.errors_at(x0, middle, [2]))
    assert set(slopes) == {name for name, v in middle.items() if v.is_floating_point()}
    same, _, features = scorer.gradients_and_features(x0, middle, [2])
    assert torch.equal(same, errors)
    # the blocks' features follow those of the prediction
    assert features.isfinite().all() and features.shape[1] > 2 * np.prod(model.sample_shape[:1])
    for key, slope in slopes.items():
        length = float(slope.norm())
        # a step that changes the error by a thousandth, or a hundredth of the conditioning
        step = min(1e-3 / length, 0.01 * float(middle[key].norm()))
        ends = [middle[key] + sign * step * slope / length for sign in (1, -1)]
        at = {**middle.rows(torch.tensor([0, 0])), key: torch.cat(ends)}
        ahead, back = scorer.errors_at(x0.expand(2, -1, -1, -1), Conditioning(at), [2, 2]).tolist()
        # tolerance: curvature, and a few roundings of float32 in each of the two errors
        rounding = 8 * torch.finfo(torch.float32).eps * ahead / (2 * step)
        assert rounding < length / 3
        assert (ahead - back) / (2 * step) == pytest.approx(length, rel=0.05, abs=rounding)


def test_errors_beside_gradients_equal_those_without(v_model: Denoiser) -> None:
    scorer = scorer_of(v_model, tuple(PROMPTS))
    x0 = latents(5, v_model.sample_shape)
    rows, draws = torch.tensor([0, 2, 1, 1, 0]), [0, 5, 6, 0, 1]
    expected = scorer.errors(x0, rows, draws)
    at = scorer.cond.rows(rows)
    assert len(expected.unique()) == 5
    assert torch.equal(scorer.errors_at(x0, at, draws), expected)
    # recording for a backward pass does not change the forward pass
    rows_of_part = 2
    scorer.batch_size = rows_of_part * GRADIENT_BATCH_PARTS
    part = scorer_of(v_model, tuple(PROMPTS), batch_size=rows_of_part)
    parts = [
        part.errors_at(x0[here], at.rows(torch.arange(5)[here]), draws[here])
        for here in (slice(0, 2), slice(2, 4), slice(4, 5))
    ]
    assert torch.equal(scorer.gradients(x0, at, draws)[0], torch.cat(parts))


def test_small_gradients_do_not_underflow_in_half_precision() -> None:
    # the size of a latent of Stable Diffusion 3: each value has weight 4e-6 in the mean, and the
    # smallest normal number of half precision is 6e-5
    shape = (16, 128, 128)
    x0, draws = latents(2, shape), [5, 2]
    single, half = (
        scorer_of(gaussian(shape, dtype=dtype), tuple(NAMES), batch_size=2)
        for dtype in (torch.float32, torch.float16)
    )
    at = Conditioning({"mean": single.cond["mean"][:2]})
    _, expected = single.gradients(x0, at, draws)
    _, result = half.gradients(x0, Conditioning({"mean": at["mean"].half()}), draws)
    for one, two in zip(result["mean"], expected["mean"], strict=True):
        # x_t, the output and its slope are each rounded to 11 bits: 2⁻¹¹ of the largest values
        assert float((one - two).norm() / two.norm()) < 3 * 2**-11


def test_more_points_than_a_batch_are_refused() -> None:
    scorer = scorer_of(gaussian(), tuple(NAMES), batch_size=2)
    three = Conditioning({"mean": torch.zeros(3, *SHAPE)})
    for function in (scorer.gradients, scorer.errors_at):
        with pytest.raises(UsageError, match="1 to 2"):
            function(torch.zeros(3, *SHAPE), three, [0, 0, 0])
