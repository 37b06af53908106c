"""A training step on a fake GPU: no operation mixes tensors of the host with those of the device.

Fake tensors have a device and a shape, and no values, so this runs without a GPU.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.noisy_classifier import NoisyClassifier
from diffcls.models.small_stable_diffusion import TinyConfig, build_pipeline
from diffcls.training import latent_losses, pixel_losses
from diffcls.training.caption_batches import pooled_captions
from diffcls.training.latent_losses import denoiser_phase, vae_phase
from diffcls.training.loop import Phase
from diffcls.training.pixel_losses import build_unet, noisy_phase, pixels_phase
from diffcls.training.recipes import Augmentation, NoisyRecipe, PixelRecipe, Recipe
from diffcls.training.stored_images import StoredImages

COUNT, BATCH = 20, 8
EVERY_CHANGE = Augmentation(degrees=5, scale=0.1, shear=0.1, warp=0.02, contrast=0.1, flip=True)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Random numbers of a fake GPU: a generator of it needs a real one."""
    for name in ("rand", "randn", "randint", "multinomial"):
        real = getattr(torch, name)

        def drawn(*args: Any, _real: Any = real, generator: Any = None, **kwargs: Any) -> Any:
            assert generator.device.type == "cuda"
            return _real(*args, **kwargs)

        monkeypatch.setattr(torch, name, drawn)

    def generator(*parts: object, device: Any = "cpu") -> Any:
        return types.SimpleNamespace(device=torch.device(device))

    for module in (latent_losses, pixel_losses):
        monkeypatch.setattr(module, "generator", generator)
    return FakeTensorMode(allow_non_fake_inputs=False)


def moved(module: Any) -> Any:
    """The module with fake weights on the fake GPU."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(value, device="cuda"))
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty_like(value, device="cuda")
    return module


def images(side: int, is_gray: bool = False) -> StoredImages:
    pixels = torch.zeros(COUNT, 3, side, side, dtype=torch.uint8, device="cuda")
    return StoredImages(pixels, is_gray)


def labels() -> Any:
    return torch.zeros(COUNT, dtype=torch.long, device="cuda")


CONFIG = TinyConfig(
    vae_channels=(8, 8, 8), unet_channels=(8, 16), text_width=16, text_layers=1, vocabulary=600
)


def autoencoder(pipe: Any) -> Phase:
    recipe = Recipe(batch=BATCH, augmentation=EVERY_CHANGE)
    return vae_phase(moved(pipe.vae), images(32), recipe, 0, "cuda")


def denoiser(pipe: Any) -> Phase:
    moved(pipe.unet)
    moved(pipe.text_encoder)
    words = lambda index, number: f"a photo of a {index}."  # noqa: E731
    captions = pooled_captions(pipe.tokenizer, words, [0, 1] * (COUNT // 2), 3, "cuda")
    latents = torch.zeros(2, COUNT, 4, 8, 8, device="cuda")
    return denoiser_phase(pipe, latents, captions, Recipe(batch=BATCH, lateness=5.0), 0)


def pixels(pipe: Any, **settings: Any) -> Phase:
    recipe = PixelRecipe(batch=BATCH, image_size=8, widths=(8, 16), **settings)
    unet = moved(build_unet(recipe, 10))
    return pixels_phase(unet, None, images(8, True), labels(), recipe, 0)


def classifier(pipe: Any) -> Phase:
    network = moved(NoisyClassifier(10, 1, (8, 16)))
    recipe = NoisyRecipe(model="any", batch=BATCH)
    return noisy_phase(network, NoiseSchedule.linear(1000), images(8, True), labels(), recipe, 0)


@pytest.mark.parametrize(
    "make", [autoencoder, denoiser, pixels, classifier], ids=lambda make: make.__name__
)
def test_a_step_takes_nothing_but_weights_and_data_of_the_device(
    make: Callable[[Any], Phase], on_gpu: FakeTensorMode
) -> None:
    with on_gpu:
        pipe = build_pipeline(CONFIG, ["a photo of a 3.", "a photo of a 4."])
        loss = make(pipe).loss(0)
    assert loss.device.type == "cuda" and loss.shape == ()


def test_images_of_the_host_would_be_found(on_gpu: FakeTensorMode) -> None:
    with on_gpu:
        data = StoredImages(torch.zeros(COUNT, 3, 8, 8, dtype=torch.uint8), is_gray=True)
        recipe = PixelRecipe(batch=BATCH, image_size=8, widths=(8, 16))
        unet = moved(build_unet(recipe, 10))
        with pytest.raises((RuntimeError, AssertionError)):
            pixels_phase(unet, None, data, labels(), recipe, 0).loss(0)
