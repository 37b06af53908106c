"""Edits by an instruction: the guidance of plain diffusers, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_families
from torch import Tensor, nn

from diffcls.editing.instruct import guided_by_both, instruct, instruct_all
from diffcls.editing.options import InstructSettings
from diffcls.models import given, loading
from diffcls.support.errors import ModelError

# 27 steps of 37 timesteps: diffusers' "linspace" then has whole timesteps, as the sampler here
STEPS = 28


def widened(unet: Any, image: int) -> None:
    """Let a tiny U-Net read the channels of an image, with random weights."""
    narrow = unet.conv_in
    unet.conv_in = nn.Conv2d(narrow.in_channels + image, narrow.out_channels, 3, padding=1)
    unet.register_to_config(in_channels=narrow.in_channels + image)


def sd_editor() -> Any:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    torch.manual_seed(0)
    parts = {k: v for k, v in tiny_families.sd1().components.items() if k != "image_encoder"}
    widened(parts["unet"], 4)
    return StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)


def xl_editor(zeros: bool = True) -> Any:
    from diffusers import StableDiffusionXLInstructPix2PixPipeline

    torch.manual_seed(0)
    parts = tiny_families.sdxl().components
    parts = {k: v for k, v in parts.items() if k not in ("image_encoder", "feature_extractor")}
    widened(parts["unet"], 4)
    return StableDiffusionXLInstructPix2PixPipeline(
        **parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False
    )


def xl_editor_with_empty_text() -> Any:
    return xl_editor(zeros=False)


def image_and_noise(denoiser: Any) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    side = denoiser.image_size
    pixels = torch.rand(3, side, side, generator=rng) * 2 - 1
    return pixels, torch.randn(1, *denoiser.sample_shape, generator=rng)


@pytest.mark.parametrize(
    ("build", "text", "image"),
    [(sd_editor, 3.0, 1.5), (xl_editor, 3.0, 1.5), (xl_editor_with_empty_text, 2.0, 1.0)],
)
def test_an_edit_is_that_of_plain_diffusers(
    build: Callable[[], Any],
    text: float,
    image: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diffusers import EulerDiscreteScheduler

    build().save_pretrained(tmp_path / "editor")
    denoiser: Any = loading.load(str(tmp_path / "editor"), editor=True)
    pixels, noise = image_and_noise(denoiser)
    words = "make the red square blue"
    latents: list[Tensor] = []

    def decode(x0: Tensor) -> Tensor:
        latents.append(x0)
        return torch.zeros(2, *pixels.shape)

    monkeypatch.setattr(denoiser, "decode_latents", decode)
    settings = InstructSettings(steps=STEPS, guidance=text, image_guidance=image)
    instruct_all(denoiser, pixels[None], [words], settings, noise)

    pipeline = build()
    config = pipeline.scheduler.config
    pipeline.scheduler = EulerDiscreteScheduler.from_config(config, timestep_spacing="linspace")
    pipeline.set_progress_bar_config(disable=True)
    side = denoiser.image_size
    theirs = pipeline(
        prompt=words,
        image=(pixels[None] + 1) / 2,
        num_inference_steps=STEPS,
        guidance_scale=text,
        image_guidance_scale=image,
        latents=noise,
        output_type="latent",
        **({"height": side, "width": side} if "tokenizer_2" in pipeline.components else {}),
    ).images
    (both,) = latents
    assert torch.allclose(both[1:], theirs, atol=1e-4 * float(theirs.abs().max()))
    assert theirs.std() > 0.1  # not constant


def test_without_guidance_the_network_with_image_and_instruction_is_left(tmp_path: Path) -> None:
    sd_editor().save_pretrained(tmp_path / "editor")
    denoiser: Any = loading.load(str(tmp_path / "editor"), editor=True)
    pixels, noise = image_and_noise(denoiser)
    calls: list[int] = []
    hook = denoiser.network.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    with torch.inference_mode():
        plain = guided_by_both(denoiser, pixels[None], ["make it blue"], 1.0, 1.0)(noise, 500)
        free = guided_by_both(denoiser, pixels[None], ["make it blue"], 0.0, 0.0)(noise, 500)
        x_t = torch.cat([noise, denoiser.encode_edited(pixels[None])], dim=1)
        text = denoiser.encode_prompts(["make it blue", ""])["text"]
        t = torch.tensor([500])
        expected = denoiser.network(x_t, t, encoder_hidden_states=text[:1]).sample
        alone = torch.cat([noise, torch.zeros_like(noise)], dim=1)
        without = denoiser.network(alone, t, encoder_hidden_states=text[1:]).sample
    hook.remove()
    assert calls[:2] == [1, 1]
    assert torch.allclose(plain.noise, expected, atol=1e-5)
    assert torch.allclose(free.noise, without, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scenes", "its network reads no image to be edited"),
        ("fashion_mnist-pixels", "a class-conditional model reads no words"),
    ],
)
def test_models_without_instructions_are_refused(name: str, reason: str) -> None:
    denoiser = given.load(name, "cpu", None, None, editor=True)
    pixels = torch.zeros(3, denoiser.image_size, denoiser.image_size)
    with pytest.raises(ModelError, match=f"follows no instructions: {reason}.*scenes-instruct"):
        instruct(denoiser, pixels, "make it blue", InstructSettings())


def test_an_editor_is_no_classifier(tmp_path: Path) -> None:
    sd_editor().save_pretrained(tmp_path / "editor")
    for open_it in (loading.load, loading.family_of, loading.card_of_text_model):
        with pytest.raises(ModelError, match=r"edits images by an instruction \(diffcls edit"):
            open_it(str(tmp_path / "editor"))


def test_whole_numbers_are_scales_like_others() -> None:
    denoiser = given.load("scenes-instruct", "cpu", None, None, editor=True)
    pixels, _ = image_and_noise(denoiser)
    scales: list[Any] = [{"guidance": 2, "image_guidance": 1}]
    scales.append({name: float(scale) for name, scale in scales[0].items()})
    whole, other = (
        instruct(denoiser, pixels, "make it blue", InstructSettings(steps=2, **one))
        for one in scales
    )
    assert torch.equal(whole.image, other.image)
