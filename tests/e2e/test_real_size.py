"""Networks of real size with random weights: the command runs them on a CPU, as forecast."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.sized_pipelines import autoencoder, clip, peak_rss, save_random, unet
from helpers.tiny_families import clip_tokenizer, ddpm
from PIL import Image

from diffcls.models.forecast import Workload, forecast
from diffcls.models.model_index import read_index

pytestmark = pytest.mark.slow
PROCESS = 1_100_000_000
"""Memory of the process and its libraries before a model is loaded, about."""
WIDTHS = (128, 256, 512, 512)


def stable_diffusion_2_base() -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=autoencoder(widths=WIDTHS, scaling_factor=0.18215),
        text_encoder=clip(1024, 23, heads=16),
        tokenizer=clip_tokenizer(),
        unet=unet(
            (320, 640, 1280, 1280),
            2,
            sample_size=64,
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
        ),
        scheduler=ddpm(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def shallow_stable_diffusion_xl() -> Any:
    """SDXL with 4 instead of 10 transformer blocks on its last level, and shallow encoders."""
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=autoencoder(widths=WIDTHS, scaling_factor=0.13025),
        text_encoder=clip(768, 4, heads=12),
        text_encoder_2=clip(1280, 4, projected=True, heads=20),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            (320, 640, 1280),
            2,
            sample_size=128,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(5, 10, 20),
            transformer_layers_per_block=(1, 2, 4),
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=6 * 256 + 1280,
            cross_attention_dim=2048,
        ),
        scheduler=ddpm(),
        add_watermarker=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Place of a model of some GB, which is removed at the end."""
    yield tmp_path / "model"
    shutil.rmtree(tmp_path / "model", ignore_errors=True)


def photos(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "dog")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (300, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        # U-Net, text encoder and autoencoder of stabilityai/stable-diffusion-2-base
        (stable_diffusion_2_base, {"unet": 865_910_724, "vae": 83_653_863}),
        (shallow_stable_diffusion_xl, {"vae": 83_653_863}),
    ],
)
def test_a_model_of_real_size_in_bfloat16_scores_three_images_in_the_forecast_memory(
    build: Any, parameters: dict[str, int], folder: Path, tmp_path: Path
) -> None:
    save_random(build, folder, torch.bfloat16)
    work = Workload(torch.bfloat16, 4, prompts=2, img_size=128)
    needed = forecast(read_index(folder), work)
    counts = {part.name: part.parameters for part in needed.parts}
    assert {name: counts[name] for name in parameters} == parameters
    assert sum(counts.values()) > 1_000_000_000

    flags = ["--dataset", f"folder:{photos(tmp_path / 'photos')}", "--model", str(folder)]
    flags += ["--dtype", "bfloat16", "--device", "cpu", "--img-size", "128", "--batch-size", "4"]
    flags += ["--search", "exhaustive", "--draws", "2", "--no-check-model"]
    flags += ["--output-dir", str(tmp_path / "out")]
    status, peak = peak_rss(flags, tmp_path / "log")
    assert status == 0, (tmp_path / "log").read_text()
    with (tmp_path / "out" / "leaderboard.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["n_scored"], row["status"], row["dtype"]) == ("3", "complete", "bfloat16")
    print(build.__name__, counts, peak / 1e6, needed.resident(PROCESS) / 1e6)
    assert needed.resident(PROCESS) == pytest.approx(peak, rel=0.2)
