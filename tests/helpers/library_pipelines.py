"""Saved tiny pipelines of every family, and reference computations with the library's code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from helpers.references import REFERENCES, of_pipeline
from helpers.references.base import kl_images, kl_latents
from helpers.tiny_families import (
    FAMILIES,
    each,
    loaded,
    saved,
)
from torch import Tensor

from diffcls.models.quiet import quiet

# context of the text encoder with the longest one
TOKENS = {"sd1": 77, "sd2": 77, "sdxl": 77, "sd3": 256, "sd3_without_t5": 77} | {
    "flux": 512,
    "flux_guided": 512,
    "pixart": 120,
    "pixart_sigma": 300,
    "pixart_sizes": 120,
}
TOKENS |= {name: reference.tokens for name, reference in REFERENCES.items()}


INDICES = torch.tensor([30, 420, 700, 980])


WORDS = ["a photo of a three", "zero", "a photo of handwritten digit seven."]


IDS = ["3", "0", "7"]


Folders = Callable[[str], Path]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Name of a family -> folder of its pipeline, saved once for all test files."""
    return lambda name: saved(name, tmp_path_factory.getbasetemp())


@pytest.fixture(params=each(FAMILIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str, folders: Folders) -> Any:
    return loaded(folders(name))


@pytest.fixture
def pipe(name: str, folders: Folders) -> Any:
    """The same pipeline, loaded by the library alone."""
    return opened_by_hand(folders(name))


@cache
def opened_by_hand(folder: Path) -> Any:
    without_t5 = folder.name == "sd3_without_t5"
    left_out = {"text_encoder_3": None, "tokenizer_3": None} if without_t5 else {}
    with quiet():
        return DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **left_out)


def prompts_of(model: Any) -> list[str]:
    return WORDS if model.labels is None else IDS


def images(model: Any, count: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, model.image_size, model.image_size, generator=rng) * 2 - 1


def latents_by_hand(pipe: Any, x: Tensor) -> Tensor:
    reference = of_pipeline(pipe)
    if reference is not None:
        return reference.latents(pipe, x)
    return kl_latents(pipe, x) if hasattr(pipe, "vae") else x


def images_by_hand(pipe: Any, x0: Tensor) -> Tensor:
    reference = of_pipeline(pipe)
    if reference is not None:
        return reference.images(pipe, x0)
    return kl_images(pipe, x0) if hasattr(pipe, "vae") else x0


def encoded_by_hand(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    reference = of_pipeline(pipe)
    if reference is not None:
        return reference.encoded(pipe, prompts)
    match type(pipe).__name__:
        case "StableDiffusionPipeline":
            return {"text": pipe.encode_prompt(prompts, "cpu", 1, False)[0]}
        case "StableDiffusionXLPipeline":
            out = pipe.encode_prompt(prompts, do_classifier_free_guidance=False)
            return {"text": out[0], "pooled": out[2]}
        case "StableDiffusion3Pipeline":
            out = pipe.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
            return {"text": out[0], "pooled": out[2]}
        case "FluxPipeline":
            out = pipe.encode_prompt(prompts, None)
            return {"text": out[0], "pooled": out[1]}
        case "PixArtAlphaPipeline" | "PixArtSigmaPipeline":
            out = pipe.encode_prompt(prompts, do_classifier_free_guidance=False)
            return {"text": out[0], "mask": out[1]}
    return {"class_id": torch.tensor([int(prompt) for prompt in prompts])}


def output_by_hand(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    """The network's output for one image, t in 0–1000."""
    reference = of_pipeline(pipe)
    if reference is not None:
        return reference.output(pipe, x_t, t, cond)
    time = torch.tensor([t])
    match type(pipe).__name__:
        case "StableDiffusionPipeline":
            return pipe.unet(x_t, time, encoder_hidden_states=cond["text"]).sample
        case "StableDiffusionXLPipeline":
            ids = torch.tensor([[32.0, 32.0, 0.0, 0.0, 32.0, 32.0]])
            added = {"text_embeds": cond["pooled"], "time_ids": ids}
            text = cond["text"]
            return pipe.unet(x_t, time, encoder_hidden_states=text, added_cond_kwargs=added).sample
        case "StableDiffusion3Pipeline":
            return pipe.transformer(x_t, cond["text"], cond["pooled"], time).sample
        case "FluxPipeline":
            _, channels, h, w = x_t.shape
            packed = pipe._pack_latents(x_t, 1, channels, h, w)
            out = pipe.transformer(
                packed,
                cond["text"],
                cond["pooled"],
                time / 1000,
                pipe._prepare_latent_image_ids(1, h // 2, w // 2, "cpu", torch.float32),
                torch.zeros(cond["text"].shape[1], 3),
                torch.ones(1) if pipe.transformer.config.guidance_embeds else None,
            ).sample
            size = h * pipe.vae_scale_factor
            return pipe._unpack_latents(out, size, size, pipe.vae_scale_factor)
        case "PixArtAlphaPipeline" | "PixArtSigmaPipeline":
            sizes = {"resolution": None, "aspect_ratio": None}
            if pipe.transformer.config.use_additional_conditions:
                sizes = {
                    "resolution": torch.tensor([[32.0, 32.0]]),
                    "aspect_ratio": torch.tensor([[1.0]]),
                }
            out = pipe.transformer(
                x_t,
                encoder_hidden_states=cond["text"],
                encoder_attention_mask=cond["mask"],
                timestep=time,
                added_cond_kwargs=sizes,
            ).sample
            return out.chunk(2, dim=1)[0]
        case "DiTPipeline":
            return pipe.transformer(x_t, time, cond["class_id"]).sample.chunk(2, dim=1)[0]
    return pipe.unet(x_t, time, class_labels=cond["class_id"]).sample


def is_flow(pipe: Any) -> bool:
    """Whether the network predicts noise − x0; Sana's sampler is not one of flow matching alone."""
    reference = of_pipeline(pipe)
    if reference is not None:
        return reference.predicts == "flow"
    return isinstance(pipe.scheduler, FlowMatchEulerDiscreteScheduler)


def chain_of(pipe: Any) -> Any:
    """The library's scheduler with the variance-preserving chain of the pipeline's training."""
    if "snr_shift_scale" in pipe.scheduler.config:
        return pipe.scheduler  # DDPM's knows no such shift
    return DDPMScheduler.from_config(pipe.scheduler.config)


def error_by_hand(pipe: Any, x0: Tensor, eps: Tensor, index: int, cond: dict[str, Tensor]) -> float:
    """The mean squared error of the noise that the output implies, with the library's scheduler."""
    if is_flow(pipe):
        sigma = (index + 0.5) / 1000
        x_t = (1 - sigma) * x0 + sigma * eps
        velocity = output_by_hand(pipe, x_t, 1000 * sigma, cond)  # ε − x0
        predicted = x_t + (1 - sigma) * velocity
        return float(((predicted - eps) ** 2).mean())
    scheduler = chain_of(pipe)
    t = torch.tensor([index])
    x_t = scheduler.add_noise(x0, eps, t)
    out = output_by_hand(pipe, x_t, index, cond)
    if scheduler.config.prediction_type == "v_prediction":
        # v = √ᾱ·ε − √(1−ᾱ)·x0, so ε = √ᾱ·v + √(1−ᾱ)·x_t
        bar = scheduler.alphas_cumprod[index]
        out = bar.sqrt() * out + (1 - bar).sqrt() * x_t
    return float(((out - eps) ** 2).mean())
