"""What the training loop is given: batches and losses of an autoencoder and a denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcls.diffusion.parameterization import parameterization_of
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.training.distributed import device_of
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import noised, objective
from diffcls.training.noise_levels import discrete
from diffcls.training.recipes import Augmentation, Recipe

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def augment(images: Tensor, a: Augmentation, rng: torch.Generator) -> Tensor:
    """(B, 3, H, W) in [−1, 1] -> the same, each image changed at random within `a`."""
    count, _, height, width = images.shape

    def spread(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng) * 2 - 1

    angle = spread(count) * math.radians(a.degrees)
    size = 1 + spread(count) * a.scale
    shear = spread(count) * a.shear
    shift = spread(count, 2) * 2 * a.shift  # a side is 2 long in grid coordinates
    mirror = torch.where(torch.rand(count, generator=rng) < (0.5 if a.flip else 0.0), -1.0, 1.0)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    rows = torch.stack([mirror * cos, shear * cos - sin, shift[:, 0]], 1)
    rows = torch.cat([rows, torch.stack([mirror * sin, shear * sin + cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(rows.view(count, 2, 3), [count, 3, height, width], align_corners=False)
    if a.warp:
        # a coarse random field, smoothed by interpolation: (B, 2, 4, 4) -> (B, H, W, 2)
        field = torch.randn(count, 2, 4, 4, generator=rng) * 2 * a.warp
        field = F.interpolate(field, (height, width), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    out = F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)
    if a.contrast:
        gain = 1 + spread(count, 1, 1, 1) * a.contrast
        out = (out + 1) * gain - 1
    return out.clamp(-1, 1)


def vae_phase(vae: Any, images: Tensor, recipe: Recipe, seed: int) -> Phase:
    """The autoencoder: mean squared error plus a faint pull towards unit normal latents.

    Args:
        images: (N, 3, H, W) in [−1, 1].
    """

    def loss(step: int) -> Tensor:
        rng = generator("vae", seed, step)
        rows = torch.randint(len(images), (recipe.batch,), generator=rng)
        x = augment(images[rows], recipe.augmentation, rng)
        x = x.to(device_of(vae))
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng).to(x.device)
        z = posterior.mean + posterior.std * noise
        return F.mse_loss(vae.decode(z).sample, x) + 1e-3 * posterior.kl().mean() / z[0].numel()

    steps = max(1, recipe.vae_images // recipe.batch)
    return Phase("vae", {"vae": vae}, loss, steps, 2e-3, recipe.warmup, 0.995)


@torch.inference_mode()
def make_latents(vae: Any, images: Tensor, recipe: Recipe, seed: int) -> Tensor:
    """(copies, N, C, h, w) latents, unscaled: of each image as it is, then of changed copies."""
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
    """U-Net and text encoder together, on the squared error of the native output.

    Args:
        latents: (copies, N, C, h, w), scaled to unit variance.
        captions: (image index, draw) -> caption.
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
        drawn = levels(batch, rng)
        dropped = torch.rand(batch, generator=rng) < recipe.prompt_dropout
        texts = [
            "" if drop else captions(int(i), step * batch + j)
            for j, (i, drop) in enumerate(zip(image, dropped, strict=True))
        ]
        device = device_of(unet)
        states = text_encoder(tokenize(tokenizer, texts).to(device)).last_hidden_state
        x0, noise = x0.to(device), noise.to(device)
        x_t = noised(x0, noise, drawn)
        told = drawn.timestep.to(device)
        out = unet(x_t, told, encoder_hidden_states=states).sample
        return objective(out, x0, noise, drawn, row, recipe.loss_weighting).mean()

    steps = max(1, recipe.images // batch)
    modules = {"unet": unet, "text_encoder": text_encoder}
    return Phase("denoiser", modules, loss, steps, recipe.learning_rate, recipe.warmup, recipe.ema)


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """(B, max_tokens) token ids, padded to the tokenizer's length and cut there."""
    ids: Tensor = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids
