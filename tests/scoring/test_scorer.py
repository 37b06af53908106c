"""Scorer: errors equal to those of diffusers, independent of batch composition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionPipeline
from helpers.fake_cuda import INDICES, PROMPTS, Pipelines, on_fake_cuda
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from diffcls.diffusion.draws import DrawPlan, noise
from diffcls.diffusion.parameterization import WEIGHTINGS
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.scorer import Scorer
from diffcls.scoring.scoring import Scoring
from diffcls.support.errors import UsageError

B = 16


def images(count: int, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def triples(count: int) -> tuple[Tensor, Tensor, list[int]]:
    """(image, prompt, draw) of each of `count` requests, all different."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(3 * len(PROMPTS) * len(INDICES))[:count]
    image, prompt, draw = np.unravel_index(chosen, (3, len(PROMPTS), len(INDICES)))
    return torch.tensor(image), torch.tensor(prompt), draw.tolist()


def scorer_of(model: Denoiser, plan: DrawPlan | None = None, **options: Any) -> Scorer:
    cond = model.encode_prompts(PROMPTS)
    return Scorer(model, cond, plan or DrawPlan(INDICES), **{"batch_size": B, **options})


# ---- against diffusers --------------------------------------------------------------------------


def direct(pipe: Any, loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss) -> tuple[Tensor, ...]:
    """Latents, and the ε-errors of one image for every (prompt, draw), computed by diffusers."""
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    # diffusers' ᾱ is float32, too coarse for 1 − ᾱ at the first timesteps: in double from the betas
    start, end = scheduler.config.beta_start**0.5, scheduler.config.beta_end**0.5
    alphas_cumprod = (1 - torch.linspace(start, end, 1000, dtype=torch.float64) ** 2).cumprod(0)
    with torch.no_grad():
        x0 = pipe.vae.encode(images(1)).latent_dist.mean * pipe.vae.config.scaling_factor
        table = torch.empty(len(PROMPTS), len(INDICES))
        for p, prompt in enumerate(PROMPTS):
            text, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
            for j, index in enumerate(INDICES):
                t, eps = torch.tensor([index]), noise(0, j, x0.shape[1:])[None]
                x_t = scheduler.add_noise(x0, eps, t)
                out = pipe.unet(x_t, t, encoder_hidden_states=text).sample
                ac = alphas_cumprod[index]
                if scheduler.config.prediction_type == "sample":
                    # ε̂ = (x_t − α·x̂0)/σ
                    x_t = ac.sqrt() * x0.double() + (1 - ac).sqrt() * eps.double()
                    out = (x_t - ac.sqrt() * out.double()) / (1 - ac).sqrt()
                elif scheduler.config.prediction_type == "v_prediction":
                    # ε̂ − ε = α·(v̂ − v)
                    out = eps + ac.sqrt() * (out - scheduler.get_velocity(x0, eps, t))
                table[p, j] = loss(out.float(), eps)
    return x0, table


@pytest.fixture(scope="module")
def v_model(tiny_pipeline: Pipelines) -> Denoiser:
    return loading.load(str(tiny_pipeline("v_prediction")))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_errors_are_those_of_diffusers(tiny_pipeline: Pipelines, prediction_type: str) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline(prediction_type))
    x0, expected = direct(pipe)
    assert pipe.scheduler.config.prediction_type == prediction_type
    model = loading.load(str(tiny_pipeline(prediction_type)))
    torch.testing.assert_close(model.encode_images(images(1)), x0, rtol=1e-5, atol=1e-5)
    scorer = scorer_of(model)
    for p in range(len(PROMPTS)):
        result = scorer.errors(
            x0.expand(len(INDICES), -1, -1, -1), torch.full((len(INDICES),), p), list(range(7))
        )
        torch.testing.assert_close(result, expected[p], rtol=1e-5, atol=1e-5)
    # prompts differ by far more than that, so a wrong row would show
    assert (expected[0] - expected[1]).abs().median() > 1e-3 * expected.median()


def test_prompts_are_encoded_as_the_pipeline_does(tiny_pipeline: Pipelines) -> None:
    folder = tiny_pipeline("epsilon")
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    prompts = [*PROMPTS, "", "A Photo of a THREE!", "é 数字 12"] * 13  # more than one batch
    expected, _ = pipe.encode_prompt(prompts, "cpu", 1, False)
    assert torch.equal(loading.load(str(folder)).encode_prompts(prompts)["text"], expected)


@pytest.mark.parametrize(
    ("loss", "function"), [("l1", F.l1_loss), ("huber", F.smooth_l1_loss), ("l2", F.mse_loss)]
)
def test_each_loss_is_its_formula(tiny_pipeline: Pipelines, loss: str, function: Any) -> None:
    x0, expected = direct(
        StableDiffusionPipeline.from_pretrained(tiny_pipeline("epsilon")), function
    )
    scorer = scorer_of(loading.load(str(tiny_pipeline("epsilon"))), scoring=Scoring(loss))
    result = scorer.errors(
        x0.expand(7, -1, -1, -1), torch.zeros(7, dtype=torch.long), list(range(7))
    )
    torch.testing.assert_close(result, expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_each_weighting_scales_its_timestep(weighting: str) -> None:
    model = GaussianDenoiser({p: torch.full((1, 2, 2), float(i)) for i, p in enumerate(PROMPTS)})
    snr = (model.schedule.alpha / model.schedule.sigma) ** 2
    ratio = snr[:-1] / snr[1:]
    weight = {
        "uniform": snr**0,
        "x0": 1 / snr,  # ‖x0 − x̂0‖² = (σ/α)²·‖ε − ε̂‖²
        "v": 1 + 1 / snr,  # ‖v − v̂‖² = ‖ε − ε̂‖²/α²
        "snr": snr,
        "snr-clipped": np.minimum(snr, 5),
        "truncated-snr": np.maximum(snr, 1) / snr,  # max(SNR, 1) on the error of x0
        "vlb": np.concatenate([ratio[:1], ratio]) / 2 - 0.5,
    }[weighting]
    x0, rows, draws = torch.zeros(7, 1, 2, 2), torch.ones(7, dtype=torch.long), list(range(7))
    plain = scorer_of(model).errors(x0, rows, draws)
    result = scorer_of(model, scoring=Scoring(weighting=weighting)).errors(x0, rows, draws)
    expected = (weight / weight.mean())[INDICES]
    assert (result / plain).numpy() == pytest.approx(expected, rel=1e-5)


def test_unknown_names_get_suggestions(v_model: Denoiser) -> None:
    with pytest.raises(UsageError, match="unknown loss: 'l3'; allowed: l2, l1, huber"):
        Scoring("l3")
    with pytest.raises(UsageError, match=r"unknown weighting.*did you mean 'uniform'"):
        scorer_of(v_model, scoring=Scoring(weighting="uniforn"))


# ---- the same to the bit ------------------------------------------------------------------------


def run(scorer: Scorer, latents: Tensor, groups: list[list[int]]) -> Tensor:
    """Errors of the triples, evaluated in `groups` of their positions."""
    image, prompt, draw = triples(40)
    result = torch.full((40,), float("nan"))
    for group in groups:
        at = torch.tensor(group)
        result[at] = scorer.errors(latents[image[at]], prompt[at], [draw[i] for i in group])
    return result


def test_errors_do_not_depend_on_order_grouping_or_position(v_model: Denoiser) -> None:
    scorer = scorer_of(v_model)
    latents = v_model.encode_images(images(3))
    expected = run(scorer, latents, [list(range(i, min(i + B, 40))) for i in range(0, 40, B)])
    assert torch.isfinite(expected).all() and len(expected.unique()) == 40
    shuffled = np.random.default_rng(3).permutation(40).tolist()
    image = triples(40)[0]
    groupings = {
        "one by one": [[i] for i in range(40)],
        "ragged": [shuffled[:3], shuffled[3:19], shuffled[19:26], shuffled[26:40]],
        "reversed": [list(range(39, 23, -1)), list(range(23, 7, -1)), list(range(7, -1, -1))],
        "image by image": [
            positions[i : i + B]
            for k in range(3)
            for positions in [torch.nonzero(image == k).ravel().tolist()]
            for i in range(0, len(positions), B)
        ],
    }
    for name, groups in groupings.items():
        assert torch.equal(run(scorer, latents, groups), expected), name
    # a scorer after other requests, and one that caches a single noise
    fresh = scorer_of(v_model)
    fresh.noise._room = 1
    assert torch.equal(run(fresh, latents, groupings["ragged"]), expected)


def test_more_or_fewer_than_a_batch_are_refused(v_model: Denoiser) -> None:
    scorer = scorer_of(v_model, batch_size=2)
    x0 = torch.zeros(3, *v_model.sample_shape)
    for count in (0, 3):
        with pytest.raises(UsageError, match="1 to 2"):
            scorer.errors(x0[:count], torch.zeros(count, dtype=torch.long), [0] * count)
    with pytest.raises(UsageError, match="batch size out of range"):
        scorer_of(v_model, batch_size=0)
    with pytest.raises(UsageError, match="outside the schedule; allowed: indices 0 to 999"):
        scorer_of(v_model, DrawPlan(np.array([1000])))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_given_noise_is_used_for_the_first_draws(
    tmp_path: Path, v_model: Denoiser, suffix: str
) -> None:
    given = torch.randn(3, *v_model.sample_shape, generator=torch.Generator().manual_seed(5))
    path = tmp_path / f"noise.{suffix}"
    if suffix == "pt":
        torch.save(given, path)
    else:
        from safetensors.torch import save_file

        save_file({"noise": given}, path)
    scorer = scorer_of(v_model, DrawPlan(INDICES, seed=4, noise_path=str(path)))
    keyed = scorer_of(v_model, DrawPlan(INDICES, seed=4))
    for j in range(len(INDICES)):
        assert torch.equal(scorer.noise[j], given[j] if j < 3 else keyed.noise[j])
    x0 = v_model.encode_images(images(1)).expand(7, -1, -1, -1)
    rows = torch.zeros(7, dtype=torch.long)
    one, two = (s.errors(x0, rows, list(range(7))) for s in (scorer, keyed))
    assert (one != two).tolist() == [True] * 3 + [False] * 4


# ---- on a device that knows only shapes ---------------------------------------------------------


def test_scoring_path_mixes_no_devices(
    tiny_pipeline: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline("v_prediction"))
    with FakeTensorMode() as mode:
        model = on_fake_cuda(pipe, mode, monkeypatch)
        x0 = model.encode_images(torch.zeros(5, 3, 32, 32))
        cond = model.encode_prompts(PROMPTS)
        scorer = Scorer(model, cond, DrawPlan(INDICES), batch_size=8)
        for where in ("cpu", "cuda"):  # the requests may be on either
            prompts = torch.tensor([0, 2, 1, 1, 0], device=where)
            errors = scorer.errors(x0, prompts, [0, 5, 6, 0, 1])
            assert errors.shape == (5,) and errors.dtype == torch.float32
        held = [x0, cond["text"], scorer.noise[0], errors, model.decode_latents(x0)]
        assert {tensor.device.type for tensor in held} == {"cuda"}


@pytest.mark.parametrize("what", ["gains", "noise", "prompts", "timesteps", "weights", "images"])
def test_the_check_finds_a_tensor_left_on_the_cpu(
    tiny_pipeline: Pipelines, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline("v_prediction"))
    with FakeTensorMode() as mode:
        model = on_fake_cuda(pipe, mode, monkeypatch)
        x0 = model.encode_images(torch.zeros(5, 3, 32, 32))
        scorer = Scorer(model, model.encode_prompts(PROMPTS), DrawPlan(INDICES), batch_size=8)
        match what:
            case "gains":
                scorer._gains = scorer._gains.cpu()
            case "noise":
                scorer.noise.device = "cpu"
            case "prompts":
                scorer.cond = Conditioning({"text": scorer.cond["text"].cpu()})
            case "timesteps":
                model._timesteps = model._timesteps.cpu()
            case "weights":
                bias = model.network.conv_out.bias
                model.network.conv_out._parameters["bias"] = nn.Parameter(bias.cpu(), False)
            case "images":
                model.autoencoder.device = torch.device("cpu")  # where images are now sent
        with pytest.raises(RuntimeError, match=r"device|FakeTensor"):
            if what == "images":
                model.encode_images(torch.zeros(5, 3, 32, 32))
            scorer.errors(x0, torch.tensor([0, 2, 1, 1, 0]), [0, 5, 6, 0, 1])
