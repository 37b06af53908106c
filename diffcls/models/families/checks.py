"""Checks of a pipeline's parts: what their configs declare, and one pass through all of them."""

from __future__ import annotations

from typing import Any

import torch

from diffcls.diffusion.draws import noise
from diffcls.diffusion.parameterization import Parameterization, parameterization_of
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.denoiser import Conditioning
from diffcls.models.pipeline_view import text_config
from diffcls.support.errors import ModelError, UsageError
from diffcls.support.seeding import key


def training_noise(scheduler: Any, time_scale: float) -> tuple[NoiseSchedule, Parameterization]:
    """The noise schedule and the parameterization of a model's training.

    Raises:
        ModelError: for a scheduler whose config has values that no training can have.
    """
    config, class_name = dict(scheduler.config), type(scheduler).__name__
    try:
        schedule = NoiseSchedule.from_diffusers(config, class_name, time_scale)
        return schedule, parameterization_of(config, class_name)
    except ModelError:
        raise
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ModelError(
            f"the config of the model's scheduler cannot be used ({error})",
            given=class_name,
            todo="check scheduler/scheduler_config.json",
        ) from error


def square_side(size: object, factor: int) -> int:
    """Side of square images in pixels, for the `sample_size` of a network's config.

    Args:
        size: one side of the latents, or a pair (h, w).
        factor: pixels per side of a latent value.

    Raises:
        UsageError: if the config names no size, or one that is not square: only square images are
            classified.
    """
    if isinstance(size, list | tuple) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size * factor
    if size is None:
        raise UsageError(
            "--img-size is required: the model's config names no size",
            todo=f"add --img-size N, a multiple of {factor}",
        )
    pair = isinstance(size, list | tuple) and len(size) == 2
    if pair and all(isinstance(side, int) and side > 0 for side in size):  # type: ignore[attr-defined]
        height, width = (side * factor for side in size)  # type: ignore[attr-defined]
        raise UsageError(
            "the model was trained on images that are not square",
            given=f"{height} x {width}",
            allowed="square images",
            todo=f"choose their side with --img-size, for instance --img-size {min(height, width)}",
        )
    raise ModelError("sample_size in the config of the network is wrong", given=size)


def check_tokenizer(name: str, tokenizer: Any, encoder: Any) -> None:
    """Raise ModelError for a tokenizer of another text encoder, or one without a vocabulary."""
    rows, tokens = int(text_config(encoder).vocab_size), len(tokenizer)
    if tokens > rows:
        raise ModelError(
            "tokenizer and text encoder do not fit each other",
            given=f"{tokens} tokens, and {rows} rows in the table of {name}",
        )
    # without its files, transformers makes a tokenizer that reads every word as unknown
    one, other = (tokenizer(text).input_ids for text in ("cat", "dog"))
    if one == other:
        raise ModelError(
            "the tokenizer of the model does not tell texts apart",
            given=name.replace("text_encoder", "tokenizer"),
            todo="check that the files of its vocabulary are complete",
        )


def first_not_finite(cond: Conditioning) -> int | None:
    """Index of the first prompt whose encoding is not finite, or None."""
    for tensor in cond.values():
        # in chunks: bounds the memory needed beside the encodings
        rows = (part.reshape(len(part), -1) for part in tensor.split(64))
        finite = torch.cat([torch.isfinite(part).all(dim=1) for part in rows])
        if not bool(finite.all()):
            return int(finite.logical_not().nonzero()[0])
    return None


@torch.inference_mode()
def run_once(denoiser: Any) -> None:
    """Run each part once on a small input: some values of a config fail only there.

    Args:
        denoiser: a `diffcls.models.families.base.PipelineDenoiser`.

    Raises:
        ModelError: for outputs of another shape than the latents', or that are not finite in single
            precision.
        Exception: whatever the network raises.
    """
    channels, height, _ = denoiser.sample_shape
    levels = len(denoiser.network.config.get("block_out_channels", None) or ())
    # a power of two that every level of a U-Net halves; four tokens of a transformer
    side = min(height, 2**levels if levels else 2 * denoiser._patch())
    x_t = noise(key("trial"), 0, (channels, side, side))[None].to(denoiser.device, denoiser.dtype)
    index = torch.full((1,), len(denoiser.schedule) // 2, device=denoiser.device)
    cond = denoiser.encode_prompts(["0" if denoiser.labels else ""])
    out = denoiser.predict(x_t, index, cond)
    if denoiser.autoencoder is not None:
        pixels = torch.zeros(1, 3, *(side * denoiser.autoencoder.factor,) * 2)
        latents = denoiser.encode_images(pixels)
        _check_output("autoencoder", latents, x_t)
    _check_output(denoiser.part, out, x_t)


def _check_output(part: str, out: torch.Tensor, x_t: torch.Tensor) -> None:
    if out.shape != x_t.shape:
        raise ModelError(
            f"the output of the {part} has another shape than its latents",
            given=tuple(out.shape[1:]),
            allowed=str(tuple(x_t.shape[1:])),
            todo=f"check the config of the {part}",
        )
    if out.dtype == torch.float32 and not torch.isfinite(out).all():
        raise ModelError(
            f"the output of the {part} is not finite", todo=f"check the config of the {part}"
        )
