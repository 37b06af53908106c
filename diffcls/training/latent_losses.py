"""Training losses of a latent diffusion model: of its autoencoder and of its denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcls.diffusion.parameterization import parameterization_of
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.training.augmentation import augment
from diffcls.training.caption_batches import CaptionBatch
from diffcls.training.distributed import device_of
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import noised, objective
from diffcls.training.mixed_precision import compiled, mixed_precision
from diffcls.training.noise_levels import discrete
from diffcls.training.recipes import Recipe
from diffcls.training.stored_images import Images

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def vae_phase(
    vae: Any, images: Images, recipe: Recipe, seed: int, device: torch.device | str = "cpu"
) -> Phase:
    """Autoencoder phase: MSE(x, decode(z)) + w·KL(q(z|x) ‖ N(0, I)) (Kingma & Welling 2014).

    Args:
        vae: diffusers' ``AutoencoderKL``.
        images: (N, 3, H, W) in [−1, 1].
        recipe: see `Recipe`; w is its `kl_weight`, per latent dimension.
        seed: seed of all random choices.
        device: place of the images and of the random numbers.
    """
    images, batch = images.to(device), recipe.autoencoder.batch
    network = compiled(_Reconstruction(vae), recipe)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    shape = batch, vae.config.latent_channels, *(side // factor for side in images.shape[2:])

    def loss(step: int) -> Tensor:
        rng = generator("vae", seed, step, device=device)
        rows = torch.randint(len(images), (batch,), generator=rng, device=device)
        x = augment(images[rows], recipe.augmentation, rng)
        x = x.to(device_of(vae))
        noise = torch.randn(shape, generator=rng, device=device).to(x.device)
        with mixed_precision(x.device, recipe):
            out, divergence = network(x, noise)
        return F.mse_loss(out.float(), x) + recipe.kl_weight * divergence

    return Phase("vae", {"vae": vae}, loss, recipe.autoencoder)


class _Reconstruction(nn.Module):
    """(x (B, 3, H, W), noise (B, C, h, w)) -> reconstruction, and KL per latent dimension ()."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(x).latent_dist
        z = posterior.mean + posterior.std * noise
        return self.vae.decode(z).sample, posterior.kl().mean() / z[0].numel()


@torch.inference_mode()
def make_latents(
    vae: Any, images: Images, recipe: Recipe, seed: int, device: torch.device | str = "cpu"
) -> Tensor:
    """(copies, N, C, h, w) unscaled latents: of the images, then of augmented copies.

    Args:
        vae, images, recipe, seed, device: see `vae_phase`; the latents lie on the device.
    """
    vae, images = vae.to(device), images.to(device)
    copies = []
    for copy in range(recipe.copies):
        parts = []
        for start in range(0, len(images), 256):
            x = images[start : start + 256]
            if copy:
                x = augment(
                    x, recipe.augmentation, generator("copy", seed, copy, start, device=device)
                )
            parts.append(vae.encode(x).latent_dist.mean)
        copies.append(torch.cat(parts))
    return torch.stack(copies)


def denoiser_phase(
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    captions: CaptionBatch,
    recipe: Recipe,
    seed: int,
    weights: Tensor | None = None,
) -> Phase:
    """Denoiser phase: U-Net and text encoder on the weighted squared error of the native output.

    Args:
        pipeline: its U-Net, text encoder, tokenizer and scheduler are used.
        latents: (copies, N, C, h, w), scaled to unit variance; random numbers are drawn on their
            device.
        captions: token ids of a batch.
        recipe: see `Recipe`.
        seed: seed of all random choices.
        weights: (N,) sampling weights of the images; None: equal ones.
    """
    here = latents.device
    scheduler = dict(pipeline.scheduler.config)
    schedule = NoiseSchedule.from_diffusers(scheduler)
    row = parameterization_of(scheduler)
    levels = discrete(schedule, here)
    unet, text_encoder, batch = pipeline.unet, pipeline.text_encoder, recipe.batch
    network = compiled(unet, recipe)
    weights = None if weights is None else weights.to(here)

    def loss(step: int) -> Tensor:
        rng = generator("denoiser", seed, step, device=here)
        image = draw_images(latents.shape[1], batch, weights, rng)
        copy = torch.randint(latents.shape[0], (batch,), generator=rng, device=here)
        x0 = latents[copy, image]
        noise = torch.randn(x0.shape, generator=rng, device=here)
        left = 1 - step / recipe.batches
        noise_levels = levels(batch, rng, 1 + (recipe.lateness - 1) * left**2)
        dropped = torch.rand(batch, generator=rng, device=here) < recipe.prompt_dropout
        device = device_of(unet)
        ids = captions(image, dropped, step * batch, rng).to(device)
        x0, noise = x0.to(device), noise.to(device)
        x_t = noised(x0, noise, noise_levels)
        timestep = noise_levels.timestep.to(device)
        with mixed_precision(device, recipe):
            states = text_encoder(ids).last_hidden_state
            out = network(x_t, timestep, encoder_hidden_states=states).sample
        return objective(out.float(), x0, noise, noise_levels, row, recipe.loss_weighting).mean()

    return Phase("denoiser", {"unet": unet, "text_encoder": text_encoder}, loss, recipe)


def image_weights(names: Sequence[str], emphasis: Mapping[str, float]) -> Tensor | None:
    """(N,) sampling weights of images, from the names of their classes; None: equal ones.

    Args:
        names: (N,) class name of each image.
        emphasis: see `diffcls.training.recipes.Recipe`.
    """
    if not emphasis:
        return None
    weight_of = {
        name: max((weight for word, weight in emphasis.items() if word in name), default=1.0)
        for name in set(names)
    }
    return torch.tensor([weight_of[name] for name in names])


def draw_images(count: int, batch: int, weights: Tensor | None, rng: torch.Generator) -> Tensor:
    """(B,) indices of images, drawn with replacement by their weights."""
    if weights is None:
        return torch.randint(count, (batch,), generator=rng, device=rng.device)
    return torch.multinomial(weights, batch, replacement=True, generator=rng)
