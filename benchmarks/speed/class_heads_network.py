"""Network with one output head per class: architecture, training, errors and cost."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 24
"""Channels per head."""


class MultiHead(nn.Module):
    """An unconditional U-Net with K output heads; head k predicts the native output for class k.

    Args:
        unet: the standard model's network, whose weights initialise the new one.
        empty: (1, L, D) conditioning of the empty prompt, the only one that the U-Net receives.
        classes: number K of classes.
    """

    def __init__(self, unet: Any, empty: Tensor, classes: int) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(unet).to(memory_format=torch.contiguous_format)
        self.trunk.requires_grad_(True)
        wide, channels = unet.config.block_out_channels[0], unet.config.out_channels
        # without its last layer, the trunk returns the features before it
        self.trunk.conv_norm_out = self.trunk.conv_act = None
        self.trunk.conv_out = nn.Identity()
        self.register_buffer("empty", empty)
        self.shape = (classes, channels)
        grouped = {"kernel_size": 3, "padding": 1, "groups": classes}
        self.heads = nn.Sequential(
            nn.GroupNorm(8, wide),
            nn.SiLU(),
            nn.Conv2d(wide, classes * WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(classes * WIDTH, classes * WIDTH, **grouped),
            nn.SiLU(),
            nn.Conv2d(classes * WIDTH, classes * channels, **grouped),
        )

    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        """x_t (B, C, h, w), index (B,) -> (B, K, C, h, w)."""
        text = self.empty.expand(len(x_t), -1, -1)
        features = self.trunk(x_t, index, encoder_hidden_states=text).sample
        out: Tensor = self.heads(features).unflatten(1, self.shape)
        return out


def train(dataset: str, denoiser: Any, flags: Any, folder: Path) -> MultiHead:
    """The trained network; training resumes from the checkpoints in `folder`."""
    from diffcls.data.load import load_dataset
    from diffcls.support.seeding import key
    from diffcls.training.latent_losses import make_latents
    from diffcls.training.loop import Loop, Phase
    from diffcls.training.recipe_table import RECIPES
    from diffcls.training.stored_images import tensor_of

    recipe, vae = RECIPES[dataset], denoiser.pipeline.vae
    data = load_dataset(dataset, "train", flags.data_root)
    images, labels = tensor_of(data, denoiser.image_size)
    latents = make_latents(vae, images, recipe, 0).clone() * vae.config.scaling_factor
    empty = denoiser.encode_prompts([""])["text"].clone()
    torch.manual_seed(key("heads", 0))
    network = MultiHead(denoiser.network, empty, len(data.class_names))
    loss = loss_of(network, denoiser, latents, torch.tensor(labels), recipe.batch)
    optimisation = replace(recipe, images=flags.images, learning_rate=1e-3)
    phase = Phase("heads", {"network": network}, loss, optimisation)
    folder.mkdir(parents=True, exist_ok=True)
    Loop(phase, folder).run()
    return network


def loss_of(
    network: MultiHead, denoiser: Any, latents: Tensor, labels: Tensor, batch: int
) -> Callable[[int], Tensor]:
    """(step) -> mean squared error of the heads of the images' classes."""
    from diffcls.training.loop import generator

    alpha, sigma = (torch.tensor(gain, dtype=torch.float32) for gain in _gains(denoiser))
    length = len(alpha)

    def loss(step: int) -> Tensor:
        rng = generator("heads", 0, step)
        image = torch.randint(latents.shape[1], (batch,), generator=rng)
        x0 = latents[torch.randint(latents.shape[0], (batch,), generator=rng), image]
        noise = torch.randn(x0.shape, generator=rng)
        u = (torch.arange(batch) + torch.rand(batch, generator=rng)) / batch
        index = (u * length).long().clamp(max=length - 1)
        a, s = (gain[index].view(-1, 1, 1, 1) for gain in (alpha, sigma))
        out = network(a * x0 + s * noise, index)[torch.arange(batch), labels[image]]
        return F.mse_loss(out, denoiser.parameterization.target(x0, noise, a, s))

    return loss


def _gains(denoiser: Any) -> list[np.ndarray]:
    return [denoiser.schedule.alpha.copy(), denoiser.schedule.sigma.copy()]


@torch.inference_mode()
def table(network: MultiHead, denoiser: Any, x0: Tensor, draws: int) -> np.ndarray:
    """(n, K, N) errors on the draws of the standard model."""
    from diffcls.diffusion.draws import nested_order, noise
    from diffcls.diffusion.timestep_allocation import allocate

    row, schedule = denoiser.parameterization, denoiser.schedule
    indices = allocate(nested_order(len(schedule), draws), denoiser.card.allocation, schedule)
    columns = []
    for draw, index in enumerate(indices.tolist()):
        alpha, sigma = float(schedule.alpha[index]), float(schedule.sigma[index])
        epsilon = noise(0, draw, denoiser.sample_shape)
        target = row.target(x0, epsilon, alpha, sigma)[:, None]
        # x_t = α·x0 + σ·ε; ε − ε̂ = (α/det)·(target − out)
        x_t = alpha * x0 + sigma * epsilon
        out = torch.cat([network(part, torch.full((len(part),), index)) for part in x_t.split(100)])
        square = (row.noise_scale(alpha, sigma) * (out - target)).square().flatten(2).mean(dim=2)
        columns.append(square.numpy())
    return np.stack(columns, axis=2)


@torch.inference_mode()
def relative_cost(network: MultiHead, denoiser: Any, rounds: int = 20, batch: int = 64) -> float:
    """Cost of one pass for all classes, in evaluations of the standard model: a median."""
    x_t, index = torch.randn(batch, *denoiser.sample_shape), torch.arange(batch)
    cond = denoiser.encode_prompts([""]).rows(torch.zeros(batch, dtype=torch.long))
    ratios = []
    for _ in range(rounds):
        marks = [time.perf_counter()]
        denoiser.predict(x_t, index, cond)
        marks.append(time.perf_counter())
        network(x_t, index)
        marks.append(time.perf_counter())
        ratios.append((marks[2] - marks[1]) / (marks[1] - marks[0]))
    return float(np.median(ratios))
