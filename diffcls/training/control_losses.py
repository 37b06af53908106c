"""Training loss of a ControlNet: the steered model's denoising error, its weights frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Denoiser
from diffcls.support.errors import UsageError
from diffcls.training.caption_batches import CaptionBatch
from diffcls.training.distributed import device_of
from diffcls.training.fine_tuned_recipes import ControlRecipe
from diffcls.training.latent_losses import draw_images
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import noised, objective
from diffcls.training.mixed_precision import mixed_precision
from diffcls.training.noise_levels import discrete


@dataclass(frozen=True)
class Examples:
    """Images as their latents, with their maps.

    Args:
        latents: (N, C, h, w) float32.
        maps: (N, H, W) bytes.
    """

    latents: Tensor
    maps: Tensor

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, C, h, w) and maps (B, 3, H, W) in [0, 1] of some images."""
        maps = self.maps[index].float() / 255
        return self.latents[index], maps[:, None].expand(-1, 3, -1, -1)


def build_control_net(unet: Any, recipe: ControlRecipe) -> Any:
    """An untrained ``ControlNetModel``: copies of the U-Net's encoder, and zero convolutions.

    Args:
        unet: U-Net of the steered model.
        recipe: widths of the embedding, and whether the middle block attends to the prompt.
    """
    from diffusers import ControlNetModel

    control = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=recipe.embedding_widths
    )
    if not recipe.middle_attention:
        smaller = {**control.config, "mid_block_type": "UNetMidBlock2D"}
        whole, control = control, ControlNetModel.from_config(smaller)
        own = control.state_dict()
        weights = {name: w for name, w in whole.state_dict().items() if name in own}
        control.load_state_dict(weights)
    return control.float()


def check_embedding(recipe: ControlRecipe, steered: Denoiser) -> None:
    """Raise UsageError unless the embedding reaches the resolution of the latents."""
    factor = steered.image_size // steered.sample_shape[1]
    if 2 ** (len(recipe.embedding_widths) - 1) != factor:
        raise UsageError(
            "the recipe of the ControlNet is for models of another latent resolution",
            given=f"{steered.card.name}, {factor} pixels per latent",
            allowed=f"{2 ** (len(recipe.embedding_widths) - 1)} pixels per latent",
            todo="choose another model with --lead",
        )


def control_phase(
    control: Any,
    steered: Any,
    images: Examples,
    captions: CaptionBatch,
    recipe: ControlRecipe,
    seed: int,
) -> Phase:
    """Training phase: E‖out(x_t, t, prompt, map) − target‖² (Zhang et al. 2023, eq. 5).

    Args:
        control: see `build_control_net`.
        steered: denoiser of a Stable Diffusion; its U-Net and text encoder stay as they are.
        images: random numbers are drawn on the device of their latents.
        captions: token ids of a batch.
        recipe: see `ControlRecipe`.
        seed: seed of all random choices.
    """
    here, batch = images.latents.device, recipe.batch
    levels, row = discrete(steered.schedule, here), steered.parameterization
    text_encoder = steered.pipeline.text_encoder

    def loss(step: int) -> Tensor:
        rng = generator("control", seed, step, device=here)
        image = draw_images(len(images.latents), batch, None, rng)
        x0, maps = images.rows(image)
        noise = torch.randn(x0.shape, generator=rng, device=here)
        at = levels(batch, rng)
        dropped = torch.rand(batch, generator=rng, device=here) < recipe.prompt_dropout
        ids = captions(image, dropped, step * batch, rng)
        device = device_of(control)
        x0, noise, maps, ids = (v.to(device) for v in (x0, noise, maps, ids))
        x_t, timestep = noised(x0, noise, at), at.timestep.to(device)
        with mixed_precision(device, recipe):
            with torch.no_grad():
                text = text_encoder(ids).last_hidden_state
            out = controlled(control, steered.network, x_t, timestep, text, maps)
        return objective(out.float(), x0, noise, at, row, recipe.loss_weighting).mean()

    return Phase("control", {"control": control}, loss, recipe)


def controlled(
    control: Any, unet: Any, x_t: Tensor, timestep: Tensor, text: Tensor, maps: Tensor
) -> Tensor:
    """Output of a U-Net whose skip connections a ControlNet adds to (Zhang et al. 2023, eq. 2)."""
    down, middle = control(x_t, timestep, text, maps, return_dict=False)
    out: Tensor = unet(
        x_t,
        timestep,
        encoder_hidden_states=text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    return out


@torch.inference_mode()
def validation_losses(
    control: Any, steered: Any, images: Examples, text: Tensor, recipe: ControlRecipe
) -> Mapping[str, float]:
    """Losses on validation images, each at one level: with their maps, and of the model alone.

    Args:
        control, steered, recipe: see `control_phase`.
        images: N validation images.
        text: (N, L, D) hidden states of their captions.
    """
    device, levels, row = steered.device, discrete(steered.schedule), steered.parameterization
    sums, count = {"validation_loss": 0.0, "plain_validation_loss": 0.0}, len(images.latents)
    for start in range(0, count, recipe.batch):
        index = torch.arange(start, min(start + recipe.batch, count))
        rng = generator("control validation", start)
        x0, maps = images.rows(index.to(images.latents.device))
        at, noise = levels(len(index), rng), torch.randn(x0.shape, generator=rng)
        x0, maps, noise, states = (v.to(device) for v in (x0, maps, noise, text[index]))
        x_t, timestep = noised(x0, noise, at), at.timestep.to(device)
        outs = (
            controlled(control, steered.network, x_t, timestep, states, maps),
            steered.network(x_t, timestep, encoder_hidden_states=states).sample,
        )
        for name, out in zip(sums, outs, strict=True):
            sums[name] += float(objective(out, x0, noise, at, row, recipe.loss_weighting).sum())
    return {name: total / count for name, total in sums.items()}
