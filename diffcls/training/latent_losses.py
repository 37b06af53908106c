"""Training losses of a latent diffusion model: of its autoencoder and of its denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcls.diffusion.parameterization import parameterization_of
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.training.augmentation import augment
from diffcls.training.distributed import device_of
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import noised, objective
from diffcls.training.noise_levels import discrete
from diffcls.training.recipes import Recipe

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def vae_phase(vae: Any, images: Tensor, recipe: Recipe, seed: int) -> Phase:
    """Autoencoder phase: MSE(x, decode(z)) + w·KL(q(z|x) ‖ N(0, I)) (Kingma & Welling 2014).

    Args:
        vae: diffusers' ``AutoencoderKL``.
        images: (N, 3, H, W) in [−1, 1].
        recipe: see `Recipe`; w is its `kl_weight`, per latent dimension.
        seed: seed of all random choices.
    """

    def loss(step: int) -> Tensor:
        rng = generator("vae", seed, step)
        rows = torch.randint(len(images), (recipe.batch,), generator=rng)
        x = augment(images[rows], recipe.augmentation, rng)
        x = x.to(device_of(vae))
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng).to(x.device)
        z = posterior.mean + posterior.std * noise
        divergence = posterior.kl().mean() / z[0].numel()
        return F.mse_loss(vae.decode(z).sample, x) + recipe.kl_weight * divergence

    return Phase("vae", {"vae": vae}, loss, recipe.autoencoder)


@torch.inference_mode()
def make_latents(vae: Any, images: Tensor, recipe: Recipe, seed: int) -> Tensor:
    """(copies, N, C, h, w) unscaled latents: of the images, then of augmented copies."""
    copies = []
    for copy in range(recipe.copies):
        parts = []
        for start in range(0, len(images), 256):
            x = images[start : start + 256]
            if copy:
                x = augment(x, recipe.augmentation, generator("copy", seed, copy, start))
            parts.append(vae.encode(x.to(device_of(vae))).latent_dist.mean.cpu())
        copies.append(torch.cat(parts))
    return torch.stack(copies)


def denoiser_phase(
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    captions: Callable[[int, int], str],
    recipe: Recipe,
    seed: int,
) -> Phase:
    """Denoiser phase: U-Net and text encoder on the weighted squared error of the native output.

    Args:
        pipeline: its U-Net, text encoder, tokenizer and scheduler are used.
        latents: (copies, N, C, h, w), scaled to unit variance.
        captions: (image index, number of the caption) -> caption.
        recipe: see `Recipe`.
        seed: seed of all random choices.
    """
    scheduler = dict(pipeline.scheduler.config)
    schedule = NoiseSchedule.from_diffusers(scheduler)
    row = parameterization_of(scheduler)
    levels = discrete(schedule)
    unet, text_encoder, tokenizer = pipeline.unet, pipeline.text_encoder, pipeline.tokenizer
    batch = recipe.batch

    def loss(step: int) -> Tensor:
        rng = generator("denoiser", seed, step)
        image = torch.randint(latents.shape[1], (batch,), generator=rng)
        copy = torch.randint(latents.shape[0], (batch,), generator=rng)
        x0 = latents[copy, image]
        noise = torch.randn(x0.shape, generator=rng)
        noise_levels = levels(batch, rng)
        dropped = torch.rand(batch, generator=rng) < recipe.prompt_dropout
        texts = [
            "" if drop else captions(int(i), step * batch + j)
            for j, (i, drop) in enumerate(zip(image, dropped, strict=True))
        ]
        device = device_of(unet)
        states = text_encoder(tokenize(tokenizer, texts).to(device)).last_hidden_state
        x0, noise = x0.to(device), noise.to(device)
        x_t = noised(x0, noise, noise_levels)
        timestep = noise_levels.timestep.to(device)
        out = unet(x_t, timestep, encoder_hidden_states=states).sample
        return objective(out, x0, noise, noise_levels, row, recipe.loss_weighting).mean()

    return Phase("denoiser", {"unet": unet, "text_encoder": text_encoder}, loss, recipe)


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """(B, max_tokens) token ids, padded or truncated to the tokenizer's maximum length."""
    ids: Tensor = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids
