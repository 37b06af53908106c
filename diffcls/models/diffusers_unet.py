"""Stable Diffusion: a U-Net with cross-attention over latents, prompts from a CLIP text encoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcls.denoiser import Conditioning, ModelCard
from diffcls.errors import ModelError, UsageError
from diffcls.parameterization import parameterization_of
from diffcls.schedule import NoiseSchedule

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

PROMPTS_A_BATCH = 64
logger = logging.getLogger(__name__)


class StableDiffusionDenoiser:
    """Stable Diffusion 1.x and 2.x, and the small models of this project: one anatomy.

    Args:
        pipeline: loaded with diffusers, the autoencoder in float32, the rest in `dtype`.
        card: name, revision, temperature.
        device, dtype: where and in what precision the network runs.
        img_size: side of the images in pixels; default: the U-Net's sample size times the
            autoencoder's factor.

    Raises:
        ModelError: when the parts do not fit each other.
        UsageError: for an image size that the autoencoder's factor does not divide.
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        card: ModelCard,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        img_size: int | None = None,
    ) -> None:
        self.card, self.device, self.dtype = card, torch.device(device), dtype
        self.vae: Any = pipeline.vae.to(self.device).eval()
        self.unet: Any = pipeline.unet.to(self.device).eval()
        self.text_encoder: Any = pipeline.text_encoder.to(self.device).eval()
        self.tokenizer: Any = pipeline.tokenizer
        # a tokenizer saved without a limit says 1e30
        self.tokenizer.model_max_length = min(
            self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings
        )
        if self.device.type == "cpu":
            self.unet = self.unet.to(memory_format=torch.channels_last)
        scheduler = dict(pipeline.scheduler.config)
        class_name = type(pipeline.scheduler).__name__
        self.schedule = NoiseSchedule.from_diffusers(scheduler, class_name)
        self.parameterization = parameterization_of(scheduler, class_name)
        self._timesteps = torch.tensor(self.schedule.timesteps, device=self.device)
        self.sample_shape, self.image_size = self._shape(img_size)

    def _shape(self, img_size: int | None) -> tuple[tuple[int, int, int], int]:
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        channels = int(self.unet.config.in_channels)
        out, latent = self.unet.config.out_channels, self.vae.config.latent_channels
        if not channels == out == latent:
            raise ModelError(
                "U-Net and autoencoder do not fit each other",
                given=f"{channels} input channels, {out} output channels, {latent} latent ones",
                allowed="equal numbers (in-painting and up-scaling models are not supported)",
            )
        reads, width = self.unet.config.cross_attention_dim, self.text_encoder.config.hidden_size
        if isinstance(reads, int) and reads != width:
            raise ModelError(
                "U-Net and text encoder do not fit each other",
                given=f"the U-Net reads width {reads}, the text encoder has width {width}",
            )
        size = int(self.unet.config.sample_size) * factor if img_size is None else img_size
        if size < factor or size % factor:
            raise UsageError(
                "image size does not fit the model", given=size, allowed=f"a multiple of {factor}"
            )
        return (channels, size // factor, size // factor), size

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> x0 (B, C, h, w): the posterior's mean, shifted and scaled."""
        images = images.to(self.device, torch.float32)
        mean: Tensor = self.vae.encode(images).latent_dist.mean
        return (mean - self._shift) * self.vae.config.scaling_factor

    @torch.inference_mode()
    def decode_latents(self, x0: Tensor) -> Tensor:
        """x0 (B, C, h, w) -> images (B, 3, H, W)."""
        z = x0.to(self.device, torch.float32) / self.vae.config.scaling_factor + self._shift
        images: Tensor = self.vae.decode(z).sample
        return images

    @property
    def _shift(self) -> float:
        return float(self.vae.config.get("shift_factor", None) or 0.0)

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """P texts -> ``text`` (P, L, D): hidden states, padded to the tokenizer's length L."""
        report_truncation(self.tokenizer, prompts)
        parts = []
        for start in range(0, len(prompts), PROMPTS_A_BATCH):
            batch = self.tokenizer(
                list(prompts[start : start + PROMPTS_A_BATCH]),
                padding="max_length",
                truncation=True,
                max_length=self.tokenizer.model_max_length,
                return_tensors="pt",
            )
            mask = getattr(self.text_encoder.config, "use_attention_mask", None)
            states = self.text_encoder(
                batch.input_ids.to(self.device),
                attention_mask=batch.attention_mask.to(self.device) if mask else None,
            )
            parts.append(Conditioning({"text": states.last_hidden_state}))
        return Conditioning.concatenate(parts)

    @torch.inference_mode()
    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        """The U-Net's output (B, C, h, w) at schedule index (B,), without guidance."""
        if self.device.type == "cpu":
            x_t = x_t.contiguous(memory_format=torch.channels_last)
        out: Tensor = self.unet(
            x_t, self._timesteps[index], encoder_hidden_states=cond["text"]
        ).sample
        return out


def report_truncation(tokenizer: Any, prompts: Sequence[str]) -> None:
    """Say which prompts are longer than the model can read.

    Raises:
        ModelError: when two different prompts are the same to the model once they are cut.
    """
    limit = tokenizer.model_max_length
    ids = tokenizer(list(prompts), verbose=False).input_ids  # we say it ourselves, below
    long = [text for text, tokens in zip(prompts, ids, strict=True) if len(tokens) > limit]
    if not long:
        return
    # the end token takes the last place, whatever is cut
    seen: dict[tuple[int, ...], str] = {}
    for text, tokens in zip(prompts, ids, strict=True):
        other = seen.setdefault(tuple(tokens[: limit - 1]), text)
        if other != text and text in long:
            raise ModelError(
                f"two prompts are the same to the model, which reads {limit} tokens",
                given=[other, text],
                todo="shorten the template or the labels",
            )
    logger.warning("%d prompts are cut at %d tokens, the first is %r", len(long), limit, long[0])
