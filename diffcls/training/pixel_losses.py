"""Denoisers of pixels, and classifiers of noisy pixels: how they are built, and what they learn."""

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
    to_schedule,
    unevenness,
)
from diffcls.training.recipes import NoisyRecipe, PixelRecipe

STEPS = 1000
"""T of every schedule."""
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "learned")
OBJECTIVES = ("epsilon", "v_prediction", "sample", "flow_prediction")


def check(recipe: PixelRecipe) -> None:
    """Raises UsageError for choices that are not known, or do not go together."""
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
            "a flow has levels and variances of its own",
            given="--objective flow",
            todo="leave --noise-schedule, --levels and --learned-variance out",
        )
    if recipe.learned_variance and at_any_level:
        raise UsageError(
            "a learned variance belongs to the steps of a schedule",
            given="--learned-variance",
            todo="leave out --levels continuous and --noise-schedule learned",
        )


def scheduler_config(recipe: PixelRecipe, learned: LearnedLogSnr | None = None) -> dict[str, Any]:
    """Config of the scheduler that is saved with the model, see `scheduler_of`.

    Args:
        recipe: of the model.
        learned: its schedule, where that was learned: it is saved as the betas of its levels.
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

    A conditional one has a class more than there are, the last, for "no class".
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


def go_on_from(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give an untrained network the weights of the model that training goes on from.

    Raises:
        UsageError: where that is none of its shape.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if found != wanted:
        other = min(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise UsageError(
            "--init is a model of another shape",
            given=f"{other}: {found.get(other, 'missing')}",
            allowed=f"{wanted.get(other, 'no such tensor')}",
        )
    module.load_state_dict(weights)


def check_taught(denoiser: Denoiser, recipe: PixelRecipe) -> None:
    """Raises UsageError where training would go on from a model that learned something else."""
    shape = (recipe.channels, recipe.image_size, recipe.image_size)
    if tuple(denoiser.sample_shape) != shape:
        raise UsageError(
            "--init is a model of another shape", given=denoiser.sample_shape, allowed=f"{shape}"
        )
    row = row_of(recipe)
    if denoiser.parameterization is not row:
        raise UsageError(
            "--init is a model of another objective",
            given=denoiser.parameterization.name,
            allowed=row.name,
            todo="give the --objective that it was trained with",
        )
    if recipe.noise_schedule == "learned":  # that begins anew, whatever was known
        return
    wanted = NoiseSchedule.from_diffusers(scheduler_config(recipe)).alpha
    found = denoiser.schedule.alpha
    if len(found) != len(wanted) or not np.allclose(found, wanted, atol=1e-6):
        raise UsageError(
            "--init is a model of another noise schedule",
            given=f"not {recipe.noise_schedule}",
            allowed=SCHEDULES,
            todo="give the --noise-schedule that it was trained with",
        )


def learned_schedule(recipe: PixelRecipe) -> LearnedLogSnr | None:
    """The schedule to learn, where the recipe says so: between the ends of the linear one."""
    if recipe.noise_schedule != "learned":
        return None
    log_snr = np.log(NoiseSchedule.linear(STEPS).snr)
    return LearnedLogSnr(float(log_snr[0]), float(log_snr[-1]))


def levels_of(recipe: PixelRecipe, learned: LearnedLogSnr | None) -> Levels:
    """Which levels of noise the recipe trains on."""
    if learned is not None:
        return continuous(learned, STEPS)
    schedule = NoiseSchedule.from_diffusers(scheduler_config(recipe))
    if recipe.levels == "continuous":
        return continuous(between(schedule), STEPS)
    return discrete(schedule)


def row_of(recipe: PixelRecipe) -> Parameterization:
    """What the network predicts."""
    flow = recipe.prediction_type == "flow_prediction"
    return parameterization("flow" if flow else recipe.prediction_type)


def pixels_phase(
    unet: Any,
    learned: LearnedLogSnr | None,
    images: Tensor,
    labels: Tensor,
    recipe: PixelRecipe,
    seed: int,
) -> Phase:
    """A U-Net of pixels on the residual of its output, and what the recipe adds to that.

    Args:
        unet: see `build_unet`.
        learned: see `learned_schedule`.
        images: (N, C, H, W) in [−1, 1].
        labels: (N,).
        recipe: see `PixelRecipe`.
        seed: of every random choice.
    """
    check(recipe)
    row, levels, batch = row_of(recipe), levels_of(recipe, learned), recipe.batch
    nobody = int(unet.config.num_class_embeds or 1) - 1
    steps = variances = None
    if recipe.learned_variance:
        steps = chain(NoiseSchedule.from_diffusers(scheduler_config(recipe)))
        variances = both_variances(steps)

    def loss(step: int) -> Tensor:
        rng = generator("pixels", seed, step)
        rows = torch.randint(len(images), (batch,), generator=rng)
        x0 = mirrored(images[rows], recipe.flip, rng)
        noise = torch.randn(x0.shape, generator=rng)
        drawn = levels(batch, rng)
        device = device_of(unet)
        x0, noise = x0.to(device), noise.to(device)
        x_t = noised(x0, noise, drawn)
        told: dict[str, Tensor] = {}
        if recipe.conditional:
            dropped = torch.rand(batch, generator=rng) < recipe.class_dropout
            told["class_labels"] = torch.where(dropped, nobody, labels[rows]).to(device)
        both = unet(x_t, drawn.timestep.to(device), **told).sample
        out = both[:, : x0.shape[1]]
        found = objective(out, x0, noise, drawn, row, recipe.loss_weighting)
        if steps is not None and variances is not None:
            mixture = (both[:, x0.shape[1] :] + 1) / 2
            term = variance_term(out, mixture, x0, x_t, drawn, steps, row, variances)
            found = found + STEPS / 1000 * term
        total = found.mean()
        if drawn.slope is not None:
            error = objective(out, x0, noise, drawn, row, "epsilon")
            total = total + unevenness(drawn.slope, error)
        return total

    modules = {"unet": unet, **({"log_snr": learned} if learned is not None else {})}
    count = max(1, recipe.images // batch)
    return Phase("pixels", modules, loss, count, recipe.learning_rate, recipe.warmup, recipe.ema)


def noisy_phase(
    classifier: NoisyClassifier,
    schedule: NoiseSchedule,
    images: Tensor,
    labels: Tensor,
    recipe: NoisyRecipe,
    seed: int,
) -> Phase:
    """A classifier of images at every level of noise (Dhariwal and Nichol 2021, section 4).

    Args:
        classifier: untrained.
        schedule: of the diffusion model that it is to lead.
        images: (N, C, H, W) in [−1, 1].
        labels: (N,).
        recipe: see `NoisyRecipe`.
        seed: of every random choice.
    """
    levels, batch = discrete(schedule), recipe.batch

    def loss(step: int) -> Tensor:
        rng = generator("noisy", seed, step)
        rows = torch.randint(len(images), (batch,), generator=rng)
        x0 = mirrored(images[rows], recipe.flip, rng)
        drawn = levels(batch, rng)
        x_t = noised(x0, torch.randn(x0.shape, generator=rng), drawn)
        device = device_of(classifier)
        logits = classifier(*(v.to(device) for v in (x_t, drawn.alpha, drawn.sigma)))
        return F.cross_entropy(logits, labels[rows].to(device))

    count = max(1, recipe.images // batch)
    modules = {"classifier": classifier}
    return Phase("noisy", modules, loss, count, recipe.learning_rate, recipe.warmup, recipe.ema)


def mirrored(images: Tensor, flip: bool, rng: torch.Generator) -> Tensor:
    """(B, C, H, W), each mirrored with probability ½ where `flip` says so."""
    if not flip:
        return images
    chosen = torch.rand(len(images), generator=rng) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)
