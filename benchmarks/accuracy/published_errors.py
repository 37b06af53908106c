"""Errors of the published scripts and of diffcls on the same images, noise and timesteps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.published_checkout import Checkout
from diffcls.support.invariants import known

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from diffcls.models.denoiser import Denoiser
    from diffcls.search.paper import Paper

SAMPLES, KEEP = (5, 10, 25, 50), (4, 3, 2, 1)
"""Stages of the comparison; the last number of samples divides 1,000, so the grids are equal."""
PROMPTS = [f"a photo of a {name}." for name in ("cat", "dog", "red truck", "small ship", "bird")]
LOSSES = ("l2", "l1", "huber")
DIT_LOSSES = ("l2", "l1", "vlb", "l2+vlb")
DIT_INTERVALS = (4, 1)
"""``--t_interval`` as published, and one that includes the step to the clean image."""
PUBLISHED_SCALE = 0.18215
"""Factor of the latents that the published scripts contain; the tiny pipelines declare it."""


def image(seed: int = 0) -> Image.Image:
    """An image of odd sides, large enough to be halved."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (23, 17, 3), dtype=np.uint8))
    return coarse.resize((167, 131), Image.Resampling.BICUBIC)


def noise_of(denoiser: Denoiser, count: int) -> Tensor:
    """(count, C, h, w) noise, the same for both sides."""
    import torch

    generator = torch.Generator().manual_seed(42)
    return torch.randn(count, *denoiser.sample_shape, generator=generator)


# ---- Stable Diffusion ----------------------------------------------------------------------------


def small_stable_diffusion() -> Denoiser:
    """A Stable Diffusion pipeline with random weights, ε-prediction and the published scale."""
    from diffcls.models.families.stable_diffusion import StableDiffusionDenoiser
    from diffcls.models.small_stable_diffusion import TinyConfig, build_pipeline

    def build() -> Any:
        pipeline = build_pipeline(TinyConfig(prediction_type="epsilon"), PROMPTS)
        pipeline.vae.register_to_config(scaling_factor=PUBLISHED_SCALE)
        return pipeline

    return _denoiser(build, StableDiffusionDenoiser)


def stable_diffusion(checkout: Checkout, loss: str) -> tuple[float, bool]:
    """``eval_prob_adaptive`` against `diffcls.search.paper.Paper`.

    Returns:
        the largest difference of the errors, and whether timesteps and predictions are the same.
    """
    import torch
    from diffusers import EulerDiscreteScheduler

    denoiser: Any = small_stable_diffusion()
    pipe, noise, picture = denoiser.pipeline, noise_of(denoiser, SAMPLES[-1]), image()
    scheduler = EulerDiscreteScheduler.from_config(dict(pipe.scheduler.config))
    arguments = SimpleNamespace(
        version="2-0",
        n_samples=SAMPLES,
        to_keep=KEEP,
        n_trials=1,
        batch_size=32,
        dtype="float32",
        loss=loss,
    )
    with checkout.script() as script, torch.no_grad():
        pixels = script.get_transform(size=denoiser.image_size)(picture)
        x0 = pipe.vae.encode(pixels[None]).latent_dist.mean * PUBLISHED_SCALE
        tokens = pipe.tokenizer(
            PROMPTS, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        text = pipe.text_encoder(tokens)[0]
        predicted, data = script.eval_prob_adaptive(
            pipe.unet, x0, text, scheduler, arguments, x0.shape[-1], noise
        )
    from diffcls.search.paper import Paper

    search = Paper(SAMPLES, KEEP)
    ours, ranking = _errors(denoiser, search, loss, noise, picture, PROMPTS)
    times = denoiser.schedule.timesteps[search.plan(len(denoiser.schedule))]
    differences, same = [], predicted == ranking[0]
    for k, row in enumerate(ours):
        evaluated = ~np.isnan(row)
        published = data[k]["pred_errors"].numpy()
        same = same and np.array_equal(data[k]["t"].numpy(), times[evaluated])
        differences.append(_largest(row[evaluated], published))
    return max(differences), bool(same)


# ---- DiT -----------------------------------------------------------------------------------------


def small_dit() -> Denoiser:
    """A DiT pipeline with random weights, a learned variance and its linear schedule."""
    from diffcls.models.families.dit import DiTDenoiser

    def build() -> Any:
        from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

        return DiTPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=4,
                norm_num_groups=4,
                sample_size=32,
                scaling_factor=PUBLISHED_SCALE,
            ),
            transformer=DiTTransformer2DModel(
                sample_size=16,
                num_layers=2,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=2,
                in_channels=4,
                out_channels=8,
                norm_type="ada_norm_zero",
                num_embeds_ada_norm=10,
            ),
            scheduler=DDIMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02),
        )

    return _denoiser(build, DiTDenoiser)


def dit(checkout: Checkout, interval: int, classes: tuple[int, ...] = (3, 7)) -> dict[str, float]:
    """``eval_prob_dit`` with ``--save_vb --randomize_noise`` against the losses of the bound.

    Args:
        checkout: with the DiT repository in it.
        interval: the script's ``--t_interval``.
        classes: class ids.

    Returns:
        Loss -> the largest difference of the errors.
    """
    import torch

    from diffcls.search.paper import Paper

    denoiser: Any = small_dit()
    count, picture = 1000 // interval, image()
    noise = noise_of(denoiser, count)
    arguments = SimpleNamespace(
        t_interval=interval,
        image_size=256,
        n_trials=1,
        batch_size=32,
        dtype="float32",
        randomize_noise=True,
        save_vb=True,
        spatial=False,
        save_eps=False,
        save_eps_and_var=False,
    )

    def network(x_t: Tensor, timestep: Tensor, y: Tensor) -> Tensor:
        return denoiser.pipeline.transformer(x_t, timestep=timestep, class_labels=y).sample

    with checkout.dit_script() as script, torch.no_grad():
        pixels = script.get_transform(denoiser.image_size)(picture)
        x0 = denoiser.pipeline.vae.encode(pixels[None]).latent_dist.mean * PUBLISHED_SCALE
        diffusion = script.create_diffusion(timestep_respacing="")
        published = [
            script.eval_prob(network, x0, torch.tensor([k]), diffusion, arguments, noise)[:, 0]
            for k in classes
        ]
    table = torch.stack(published).numpy()  # (K, N, 4): L2, L1, VLB and the decoder's term
    columns = {
        "l2": table[..., 0],
        "l1": table[..., 1],
        "vlb": table[..., 2],
        "l2+vlb": table[..., 0] + table[..., 2],
    }
    search = Paper((count,), (1,))
    prompts = [str(k) for k in classes]
    return {
        loss: _largest(_errors(denoiser, search, loss, noise, picture, prompts)[0], columns[loss])
        for loss in DIT_LOSSES
    }


# ---- images --------------------------------------------------------------------------------------


def pixels(checkout: Checkout, size: int = 64) -> dict[str, float]:
    """Resizing -> the largest difference of the prepared pixels, over images of several shapes."""
    from diffcls.data.transforms import ADM, INTERPOLATIONS, to_pixels

    pictures = [image(seed).crop((0, 0, 167 - 40 * seed, 131 - 7 * seed)) for seed in range(3)]
    with checkout.script() as script:
        known = script.INTERPOLATIONS
        theirs = {name: script.get_transform(known[name], size) for name in INTERPOLATIONS}
        result = {
            name: max(_largest(to_pixels(p, size, name), transform(p).numpy()) for p in pictures)
            for name, transform in theirs.items()
        }
    if checkout.has_dit:
        with checkout.dit_script() as script:
            transform = script.get_transform(size)
            result[ADM] = max(
                _largest(to_pixels(p, size, ADM), transform(p).numpy()) for p in pictures
            )
    return result


# ---- shared --------------------------------------------------------------------------------------


def _denoiser(build: Callable[[], Any], family: Callable[..., Any]) -> Denoiser:
    import torch

    from diffcls.models.denoiser import ModelCard

    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = build()
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                for parameter in part.parameters():
                    # what begins at zero would make all classes alike
                    if parameter.ndim > 1 and float(parameter.detach().abs().max()) < 1e-3:
                        torch.nn.init.normal_(parameter, std=0.05)
    denoiser: Denoiser = family(pipeline, ModelCard("random weights", "0"))
    return denoiser


def _errors(
    denoiser: Denoiser,
    search: Paper,
    loss: str,
    noise: Tensor,
    picture: Image.Image,
    prompts: list[str],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(K, N) errors of one image, NaN where not evaluated, and the ranking of the classes."""
    from safetensors.torch import save_file

    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.data.dataset import Item
    from diffcls.data.prompts import PromptSet
    from diffcls.scoring.scoring import Scoring

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.safetensors"
        save_file({"noise": noise.contiguous()}, path)
        method = DiffusionMethod(
            denoiser,
            PromptSet(tuple(prompts), tuple(prompts), tuple(range(len(prompts)))),
            search,
            Scoring(loss),
            batch_size=32,
            noise_path=str(path),
            keep_errors=True,
        )
        (scores,) = method.classify([Item("image", 0, lambda: picture)])
    return known(scores.errors), scores.ranking


def _largest(ours: Any, theirs: Any) -> float:
    """The largest difference, absolute up to 1 and relative above."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))))
