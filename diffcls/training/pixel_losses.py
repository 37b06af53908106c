"""Pixel-space denoisers and noisy-image classifiers: networks, checks and training losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcls.diffusion.parameterization import Parameterization, parameterization
from diffcls.diffusion.process import chain
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.denoiser import Denoiser
from diffcls.models.noisy_classifier import NoisyClassifier
from diffcls.support.errors import UsageError, unknown_name
from diffcls.training.augmentation import mirrored
from diffcls.training.distributed import device_of
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import (
    both_variances,
    check_weighting,
    noised,
    objective,
    variance_term,
)
from diffcls.training.noise_levels import (
    LearnedLogSnr,
    Levels,
    between,
    continuous,
    discrete,
    schedule_loss,
    to_schedule,
)
from diffcls.training.recipes import NoisyRecipe, PixelRecipe
from diffcls.training.stored_images import Images

STEPS = 1000
"""T, the number of levels of every schedule."""
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "learned")
OBJECTIVES = ("epsilon", "v_prediction", "sample", "flow_prediction")


def check(recipe: PixelRecipe) -> None:
    """Raise UsageError for unknown choices, or choices that exclude each other."""
    for kind, name, known in (
        ("noise schedule", recipe.noise_schedule, SCHEDULES),
        ("objective", recipe.prediction_type, OBJECTIVES),
        ("kind of levels", recipe.levels, ("discrete", "continuous")),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    check_weighting(recipe.loss_weighting)
    flow = recipe.prediction_type == "flow_prediction"
    at_any_level = recipe.noise_schedule == "learned" or recipe.levels == "continuous"
    chosen = recipe.noise_schedule != PixelRecipe.noise_schedule or at_any_level
    if flow and (chosen or recipe.learned_variance):
        raise UsageError(
            "--objective flow has its own noise levels and variances",
            given="--objective flow",
            todo="remove --noise-schedule, --levels and --learned-variance",
        )
    if recipe.learned_variance and at_any_level:
        raise UsageError(
            "--learned-variance needs the discrete steps of a fixed schedule",
            given="--levels continuous or --noise-schedule learned",
            todo="remove them, or remove --learned-variance",
        )


def scheduler_config(recipe: PixelRecipe, learned: LearnedLogSnr | None = None) -> dict[str, Any]:
    """Config of the scheduler that is saved with the model, see `diffcls.models.schedulers`.

    Args:
        recipe: see `PixelRecipe`.
        learned: its learned schedule, saved as the betas of its levels; None: a fixed schedule.
    """
    config: dict[str, Any] = {
        "num_train_timesteps": STEPS,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear" if recipe.noise_schedule == "learned" else recipe.noise_schedule,
        "prediction_type": recipe.prediction_type,
        "variance_type": "learned_range" if recipe.learned_variance else "fixed_large",
        "clip_sample": True,
    }
    if recipe.noise_schedule == "scaled_linear":
        config |= {"beta_start": 0.00085, "beta_end": 0.012}
    if learned is not None:
        config["trained_betas"] = chain(to_schedule(learned, STEPS)).variance.tolist()
    return config


def build_unet(recipe: PixelRecipe, classes: int) -> Any:
    """An untrained U-Net; its weights follow torch's global seed.

    A class-conditional one has one more class embedding, the last, for "no class".
    """
    from diffusers import UNet2DModel

    levels = len(recipe.widths)
    return UNet2DModel(
        sample_size=recipe.image_size,
        in_channels=recipe.channels,
        out_channels=recipe.channels * (2 if recipe.learned_variance else 1),
        block_out_channels=recipe.widths,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        layers_per_block=recipe.layers,
        norm_num_groups=8,
        attention_head_dim=16,
        num_class_embeds=classes + 1 if recipe.conditional else None,
    )


def load_initial_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of the model that --init names into an untrained network.

    Raises:
        UsageError: for weights of another shape.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if given != expected:
        name = min(n for n in {*given, *expected} if given.get(n) != expected.get(n))
        raise UsageError(
            "--init names a model of another shape",
            given=f"{name}: {given.get(name, 'missing')}",
            allowed=f"{expected.get(name, 'no such tensor')}",
        )
    module.load_state_dict(weights)


def check_initial_model(denoiser: Denoiser, recipe: PixelRecipe) -> None:
    """Raise UsageError unless a model can be fine-tuned with the recipe."""
    shape = (recipe.channels, recipe.image_size, recipe.image_size)
    if tuple(denoiser.sample_shape) != shape:
        raise UsageError(
            "--init names a model of another shape", given=denoiser.sample_shape, allowed=f"{shape}"
        )
    row = row_of(recipe)
    if denoiser.parameterization is not row:
        raise UsageError(
            "--init names a model of another objective",
            given=denoiser.parameterization.name,
            allowed=row.name,
            todo="choose the --objective that it was trained with",
        )
    if recipe.noise_schedule == "learned":  # always trained from its initial state
        return
    expected = NoiseSchedule.from_diffusers(scheduler_config(recipe)).alpha
    given = denoiser.schedule.alpha
    if len(given) != len(expected) or not np.allclose(given, expected, atol=1e-6):
        raise UsageError(
            "--init names a model of another noise schedule",
            given=f"not {recipe.noise_schedule}",
            allowed=SCHEDULES,
            todo="choose the --noise-schedule that it was trained with",
        )


def learned_schedule(recipe: PixelRecipe) -> LearnedLogSnr | None:
    """An untrained schedule between the ends of the linear one; None for a fixed schedule."""
    if recipe.noise_schedule != "learned":
        return None
    log_snr = np.log(NoiseSchedule.linear(STEPS).snr)
    return LearnedLogSnr(float(log_snr[0]), float(log_snr[-1]))


def levels_of(
    recipe: PixelRecipe, learned: LearnedLogSnr | None, device: torch.device | str = "cpu"
) -> Levels:
    """Sampler of the noise levels that the recipe trains on, for generators on a device."""
    if learned is not None:
        return continuous(learned, STEPS)
    schedule = NoiseSchedule.from_diffusers(scheduler_config(recipe))
    if recipe.levels == "continuous":
        return continuous(between(schedule), STEPS)
    return discrete(schedule, device)


def row_of(recipe: PixelRecipe) -> Parameterization:
    """Parameterization of the network's output."""
    flow = recipe.prediction_type == "flow_prediction"
    return parameterization("flow" if flow else recipe.prediction_type)


def pixels_phase(
    unet: Any,
    learned: LearnedLogSnr | None,
    images: Images,
    labels: Tensor,
    recipe: PixelRecipe,
    seed: int,
) -> Phase:
    """Pixel-space U-Net on the weighted residual of its output.

    A learned variance adds its VLB term, a learned schedule the loss of its shape.

    Args:
        unet: see `build_unet`.
        learned: see `learned_schedule`.
        images: (N, C, H, W) in [−1, 1]; random numbers are drawn on their device.
        labels: (N,) class indices, on that device.
        recipe: see `PixelRecipe`.
        seed: seed of all random choices.
    """
    check(recipe)
    here, row, batch = images.device, row_of(recipe), recipe.batch
    levels = levels_of(recipe, learned, here)
    no_class = int(unet.config.num_class_embeds or 1) - 1
    steps = variances = None
    if recipe.learned_variance:
        steps = chain(NoiseSchedule.from_diffusers(scheduler_config(recipe)))
        variances = both_variances(steps)

    def loss(step: int) -> Tensor:
        rng = generator("pixels", seed, step, device=here)
        rows = torch.randint(len(images), (batch,), generator=rng, device=here)
        x0 = mirrored(images[rows], recipe.flip, rng)
        noise = torch.randn(x0.shape, generator=rng, device=here)
        at = levels(batch, rng)
        device = device_of(unet)
        x0, noise = x0.to(device), noise.to(device)
        x_t = noised(x0, noise, at)
        conditions: dict[str, Tensor] = {}
        if recipe.conditional:
            dropped = torch.rand(batch, generator=rng, device=here) < recipe.class_dropout
            conditions["class_labels"] = torch.where(dropped, no_class, labels[rows]).to(device)
        both = unet(x_t, at.timestep.to(device), **conditions).sample
        out = both[:, : x0.shape[1]]
        losses = objective(out, x0, noise, at, row, recipe.loss_weighting)
        if steps is not None and variances is not None:
            mixture = (both[:, x0.shape[1] :] + 1) / 2
            term = variance_term(out, mixture, x0, x_t, at, steps, row, variances)
            losses = losses + STEPS / 1000 * term
        total = losses.mean()
        if at.slope is not None:
            error = objective(out, x0, noise, at, row, "epsilon")
            total = total + schedule_loss(at.slope, error)
        return total

    modules = {"unet": unet, **({"log_snr": learned} if learned is not None else {})}
    return Phase("pixels", modules, loss, recipe)


def noisy_phase(
    classifier: NoisyClassifier,
    schedule: NoiseSchedule,
    images: Images,
    labels: Tensor,
    recipe: NoisyRecipe,
    seed: int,
) -> Phase:
    """Training phase of a classifier: cross-entropy at every noise level.

    Source: Dhariwal & Nichol 2021, section 4.

    Args:
        classifier: the untrained classifier.
        schedule: noise schedule of the diffusion model to guide.
        images: (N, C, H, W) in [−1, 1]; random numbers are drawn on their device.
        labels: (N,) class indices, on that device.
        recipe: see `NoisyRecipe`.
        seed: seed of all random choices.
    """
    here, batch = images.device, recipe.batch
    levels = discrete(schedule, here)

    def loss(step: int) -> Tensor:
        rng = generator("noisy", seed, step, device=here)
        rows = torch.randint(len(images), (batch,), generator=rng, device=here)
        x0 = mirrored(images[rows], recipe.flip, rng)
        at = levels(batch, rng)
        x_t = noised(x0, torch.randn(x0.shape, generator=rng, device=here), at)
        device = device_of(classifier)
        logits = classifier(*(v.to(device) for v in (x_t, at.alpha, at.sigma)))
        return F.cross_entropy(logits, labels[rows].to(device))

    return Phase("noisy", {"classifier": classifier}, loss, recipe)
