"""Training images on the device: the same values to the bit, and no work of Python per image."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from diffcls.data.load import load_dataset
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.small_stable_diffusion import TinyConfig, build_pipeline
from diffcls.support.progress import Progress
from diffcls.training import caption_batches, options, recipe_table
from diffcls.training.caption_batches import CaptionBatch, new_captions, pooled_captions
from diffcls.training.clip import build, clip_phase, model_config
from diffcls.training.distributed import ProcessGroup
from diffcls.training.latent_losses import denoiser_phase, vae_phase
from diffcls.training.loop import Loop, Phase
from diffcls.training.pixel_losses import build_unet, noisy_phase, pixels_phase
from diffcls.training.recipes import (
    Augmentation,
    ClipRecipe,
    NoisyRecipe,
    Optimisation,
    PixelRecipe,
    Recipe,
    for_device,
)
from diffcls.training.stored_images import StoredImages, store, tensor_of
from diffcls.training.throughput import Throughput

EVERY_CHANGE = Augmentation(degrees=5, scale=0.1, shear=0.1, warp=0.02, contrast=0.1, flip=True)


# ---- values -------------------------------------------------------------------------------------


def test_stored_images_have_the_values_of_the_transform_to_the_bit() -> None:
    data = load_dataset("digits", "validation")
    images, labels = store(data, 12)  # resized, so all 256 values occur
    floats, same_labels = tensor_of(data, 12)
    assert images.pixels.dtype == torch.uint8 and len(images) == len(floats)
    assert labels == same_labels and images.shape == floats.shape
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:50]
    assert torch.equal(images[rows], floats[rows])
    assert torch.equal(images[10:20], floats[10:20])
    gray = StoredImages(images.pixels, is_gray=True)
    assert gray.shape == (len(floats), 1, 12, 12)
    assert torch.equal(gray[rows], floats.mean(dim=1, keepdim=True)[rows])
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    values = np.arange(256, dtype=np.float32) / np.float32(127.5) - np.float32(1)
    assert np.array_equal(StoredImages(every)[:1][0, 0].numpy().ravel(), values)


def test_a_gpu_holds_the_data_and_every_other_device_trains_the_recipe_as_it_is() -> None:
    for table in (recipe_table.RECIPES, recipe_table.CLIP_RECIPES, recipe_table.PIXEL_RECIPES):
        for recipe in table.values():
            assert for_device(recipe, "cpu") is recipe  # type: ignore[type-var]
            on_gpu: Any = for_device(recipe, "cuda:1")  # type: ignore[type-var]
            assert on_gpu == replace(recipe, on_device=True)  # type: ignore[type-var]


def test_the_command_trains_on_a_gpu_with_the_data_there(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffcls.models.devices.check_device", lambda name: None)
    chosen = options.TrainingOptions(dataset="digits", model="pixels", output_dir=str(tmp_path))
    training = options.open_training(chosen, processes=ProcessGroup(device="cuda"))
    assert training.recipe.on_device and training._data_device == "cuda"
    training = options.open_training(chosen, processes=ProcessGroup(device="cpu"))
    assert not training.recipe.on_device and training._data_device == "cpu"


# ---- work per step ------------------------------------------------------------------------------

Make = Callable[[int], Phase]
LABELS = torch.arange(64) % 10


class CountedImages(StoredImages):
    """Images that count how often rows of them are requested."""

    requests = 0

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        self.requests += 1
        return super().__getitem__(rows)

    def to(self, device: torch.device | str) -> StoredImages:
        return self


def images(side: int, is_gray: bool = False) -> CountedImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (len(LABELS), 3, side, side), generator=generator)
    return CountedImages(pixels.to(torch.uint8), is_gray)


def words(index: int, number: int) -> str:
    return f"a photo of a {index % 10}, version {number % 7}."


def pipeline() -> Any:
    config = TinyConfig(
        vae_channels=(8, 8, 8), unet_channels=(8, 16), text_width=16, text_layers=1, vocabulary=600
    )
    return build_pipeline(config, [words(i, i) for i in range(50)])


def captions_of(tokenizer: Any, kind: str) -> CaptionBatch:
    if kind == "new captions":
        return new_captions(tokenizer, words)
    return pooled_captions(tokenizer, words, LABELS.tolist(), 3, "cpu")


def autoencoder(batch: int) -> Phase:
    recipe = Recipe(batch=batch, augmentation=EVERY_CHANGE)
    return vae_phase(pipeline().vae, images(32), recipe, 0)


def denoiser(batch: int, kind: str = "pool") -> Phase:
    pipe = pipeline()
    latents = torch.randn(2, len(LABELS), 4, 8, 8)
    captions = captions_of(pipe.tokenizer, kind)
    recipe = Recipe(batch=batch, lateness=5.0)
    return denoiser_phase(pipe, latents, captions, recipe, 0, torch.ones(len(LABELS)))


def clip(batch: int) -> Phase:
    recipe = ClipRecipe(batch=batch, image_size=32, vision_width=8, text_width=32, text_layers=1)
    tokenizer = pipeline().tokenizer
    model = build(model_config(recipe, len(tokenizer)))
    captions = captions_of(tokenizer, "pool")
    return clip_phase(model, images(32), captions, EVERY_CHANGE, recipe, 0)


def pixels(batch: int, **settings: Any) -> Phase:
    recipe = PixelRecipe(batch=batch, image_size=8, widths=(8, 16), **settings)
    torch.manual_seed(0)
    return pixels_phase(build_unet(recipe, 10), None, images(8, True), LABELS, recipe, 0)


def learned_variance(batch: int) -> Phase:
    return pixels(batch, learned_variance=True)


def continuous(batch: int) -> Phase:
    return pixels(batch, levels="continuous")


class Flat(nn.Module):
    """A classifier of noisy images with one weight per class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10))

    def forward(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x_t.flatten(1).mean(dim=1, keepdim=True) * self.weight


def classifier(batch: int) -> Phase:
    schedule = NoiseSchedule.linear(1000)
    recipe = NoisyRecipe(model="any", batch=batch)
    return noisy_phase(Flat(), schedule, images(8), LABELS, recipe, 0)  # type: ignore[arg-type]


PHASES: tuple[Make, ...] = (
    autoencoder,
    denoiser,
    clip,
    pixels,
    learned_variance,
    continuous,
    classifier,
)


def python_calls(phase: Phase) -> int:
    """Calls of Python functions in one training step, the backward pass included."""
    count = 0

    def counted(frame: types.FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    phase.loss(0)  # whatever is done once only
    sys.setprofile(counted)
    try:
        phase.loss(1).backward()
    finally:
        sys.setprofile(None)
    return count


def operations(phase: Phase) -> dict[str, int]:
    """Operations of torch in one step by name, as its profiler counts them.

    Only those that launch work are counted: views and allocations are none.
    """
    names = ("index", "randn", "rand", "randint", "grid_sampler", "convolution", "linear", "mul")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        phase.loss(1)
    return {e.key: e.count for e in profiled.key_averages() if e.key.split("::")[-1] in names}


@pytest.mark.parametrize("make", PHASES, ids=lambda make: make.__name__)
def test_a_training_step_does_no_work_per_image(make: Make) -> None:
    few, many = make(8), make(32)
    assert python_calls(few) == python_calls(many)
    assert operations(few) == operations(many) != {}


def test_captions_written_for_each_image_are_work_per_image() -> None:
    # what the other tests would find; a GPU takes captions from a pool
    few, many = (python_calls(denoiser(batch, "new captions")) for batch in (8, 32))
    assert many > few + 24


def test_rows_of_a_batch_are_requested_once() -> None:
    recipe = PixelRecipe(batch=32, image_size=8, widths=(8, 16))
    data = images(8, is_gray=True)
    phase = pixels_phase(build_unet(recipe, 10), None, data, LABELS, recipe, 0)
    for step in range(3):
        phase.loss(step)
    assert data.requests == 3


def test_a_pool_without_a_size_is_divided_among_the_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caption_batches, "POOL_CAPTIONS", 45)
    written: list[int] = []

    def noted(index: int, number: int) -> str:
        written.append(index % 10)
        return words(index, number)

    pooled_captions(pipeline().tokenizer, noted, LABELS.tolist(), 0, "cpu")
    assert sorted(written) == sorted(list(range(10)) * 4)  # 45 // 10 of each


# ---- progress -----------------------------------------------------------------------------------


def test_progress_shows_the_images_per_second_of_the_steps_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, shown = 0.0, []
    monkeypatch.setattr("diffcls.training.loop.time.monotonic", lambda: now)
    monkeypatch.setattr(Progress, "set_values", lambda self, **values: shown.append(values))
    model = nn.Linear(1, 1)

    def loss(step: int) -> Tensor:
        nonlocal now
        now += 0.5 if step < 40 else 0.25
        result: Tensor = model(torch.ones(1, 1)).sum()
        return result

    def validate(batches: int) -> dict[str, float]:
        nonlocal now
        now += 1000.0
        return {}

    settings = Optimisation(images=64 * 30, batch=32)
    Loop(Phase("line", {"model": model}, loss, settings), None, accumulate=2).run(validate, 1)
    # two batches of 32 per step: 64 images in a second, later in half a second
    assert [values["images/s"] for values in shown] == ["64", "128"]


def test_throughput_is_that_since_the_reading_before() -> None:
    throughput = Throughput(images_per_step=10, step=100, seconds=50.0)
    assert throughput.since(120, 54.0) == 50
    assert throughput.since(121, 54.1) == pytest.approx(100)
