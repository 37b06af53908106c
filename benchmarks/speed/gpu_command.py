"""The whole command and the published procedure on a Stable Diffusion of real size, for `gpu`.

Weights and pixels are random, so a race is decided by chance: its speed is measured, not its
accuracy. Everything else is as for a downloaded model: pipeline, image files, records.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import throughput
from benchmarks.speed.gpu_counts import count_flops, weights_gib
from benchmarks.speed.gpu_network import PROMPTS, Size, build, inputs_of
from benchmarks.speed.gpu_plan import Row
from benchmarks.speed.gpu_timing import extra_memory, free_memory, synchronise
from diffcls.models.small_stable_diffusion import TinyConfig, build_tokenizer

DRAWS = 8
"""Budget of the race, small so that many images pass through it in a minute."""
PUBLISHED_STAGES: dict[str, Any] = {"n_samples": [25, 250], "to_keep": [5, 1]}
"""Stages of Oxford-IIIT Pets in the published script."""
BARE = "bare network, as the command runs it"
WHOLE = "whole command, racing, 37 classes"
PUBLISHED = "published procedure, one image at a time"
SAME = "of_bare_network"


def build_pipeline(size: Size, device: str) -> Any:
    """A ``StableDiffusionPipeline`` with a U-Net of this size, all its weights random.

    Args:
        size: a U-Net conditioned on the hidden states of one text encoder.
        device: torch's name of the device.
    """
    import torch
    from diffusers import StableDiffusionPipeline

    from diffcls.models.schedulers import scheduler_of

    is_tiny = size.config["block_out_channels"][0] < 320
    names = [f"a photo of a {name}, a type of pet." for name in class_names()]
    tokenizer = build_tokenizer(names, TinyConfig(max_tokens=size.tokens if is_tiny else 77))
    with torch.device(device):
        text_encoder = _text_encoder(size.config["cross_attention_dim"], tokenizer, is_tiny)
        vae = _autoencoder(is_tiny)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=build(size, device),
        scheduler=scheduler_of(
            num_train_timesteps=1000,
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            steps_offset=1,
            prediction_type="epsilon",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(device)


def _text_encoder(width: int, tokenizer: Any, is_tiny: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=1 if is_tiny else 23,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def _autoencoder(is_tiny: bool) -> Any:
    from diffusers import AutoencoderKL

    widths = (8, 8) if is_tiny else (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1 if is_tiny else 2,
        latent_channels=4,
        norm_num_groups=4 if is_tiny else 32,
        sample_size=32 if is_tiny else 512,
        scaling_factor=0.18215,
    )


def class_names() -> list[str]:
    """Made-up names of the classes, as many as pets has."""
    return [f"breed {chr(97 + i % 26)}{i // 26}" for i in range(PROMPTS)]


def write_images(folder: Path, count: int, side: int) -> None:
    """At least `count` image files of random pixels, equally many per class.

    Args:
        folder: gets one folder per class.
        count: number of images.
        side: height and width in pixels.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    per_class = -(-count // PROMPTS)
    for name in class_names():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            # noise cannot be compressed
            Image.fromarray(pixels).save(folder / name / f"{i}.png", compress_level=0)


class CommandBench:
    """Whole command and published procedure on one pipeline in memory.

    Args:
        size: see `build_pipeline`.
        device: torch's name of the device.
        seconds: duration of the bare network's measurement; a third of the published procedure's.
        batch: rows of the command's forward passes.
        images: number of images that the command scores.
    """

    def __init__(self, size: Size, device: str, seconds: float, batch: int, images: int) -> None:
        self.size, self.device, self.seconds = size, device, seconds
        self.batch, self.images = batch, images
        self.dtype = "bfloat16" if device.startswith("cuda") else "float32"
        self.pipeline = build_pipeline(size, device)
        few = inputs_of(size, device, size.pairs)
        self.flops = count_flops(self.pipeline.unet, few) / size.pairs
        self.side = self.size.config["sample_size"] * self._factor()

    def _factor(self) -> int:
        return int(2 ** (len(self.pipeline.vae.config.block_out_channels) - 1))

    def whole(self) -> Iterator[Row]:
        """Rows of the bare network, and of the whole command with its records."""
        with tempfile.TemporaryDirectory() as folder:
            images = self._images(folder, self.images)
            plan = self._plan(images, self.batch, draws=DRAWS, limit=self.images)
            plan.built.method.seconds_per_batch = lambda: 0.0  # leave the cost estimate out
            rate = self._bare(plan)
            yield self._row(BARE, rate, self.batch)
            yield self._whole(plan, rate)
        free_memory(self.device)

    def _whole(self, plan: Any, rate: float) -> Row:
        from diffcls.evaluation.run import run

        network = plan.built.method.denoiser.network
        with (
            throughput.metered(plan.built.method.denoiser) as meter,
            extra_memory(self.device) as extra,
        ):
            row = run(plan)
            synchronise(self.device)
            seconds = time.perf_counter() - meter.first
        evaluations = row["evaluations_per_image"] * row["n_scored"]
        return {
            **self._row(WHOLE, evaluations / seconds, self.batch),
            SAME: evaluations / seconds / rate,
            "images_per_second": row["n_scored"] / seconds,
            "note": f"{row['n_scored']} images, {row['evaluations_per_image']:.0f} evaluations "
            f"per image (random weights), batches {evaluations / meter.rows:.0%} full",
            **_memory(network, extra),
        }

    def published(self, batch: int = 32) -> Iterator[Row]:
        """Row of the published procedure, ended after a fixed number of evaluations.

        Args:
            batch: rows of a forward pass, 32 in the published script.
        """
        with tempfile.TemporaryDirectory() as folder:
            plan = self._plan(self._images(folder, 1), batch, search="paper", **PUBLISHED_STAGES)
            method = plan.built.method
            method.encode_batch = 1
            rate = self._bare(plan)
            most = max(2 * batch, int(3 * rate * self.seconds))
            with (
                throughput.metered(method.denoiser) as meter,
                extra_memory(self.device) as extra,
            ):
                start = time.perf_counter()
                for item in plan.dataset.items:
                    with closing(method.race(item)) as states:
                        for _ in states:  # one after each batch
                            if meter.rows >= most:
                                break
                    if meter.rows >= most:
                        break
                synchronise(self.device)
                seconds = time.perf_counter() - start
        yield {
            **self._row(PUBLISHED, meter.rows / seconds, batch),
            SAME: meter.rows / seconds / rate,
            "note": f"stages {PUBLISHED_STAGES['n_samples']}, ended after {meter.rows} evaluations",
            **_memory(method.denoiser.network, extra),
        }
        free_memory(self.device)

    def _images(self, folder: str, count: int) -> str:
        write_images(Path(folder) / "images", count, self.side)
        return folder

    def _plan(self, folder: str, batch: int, **options: Any) -> Any:
        return throughput.plan_of(
            dataset=f"folder:{folder}/images",
            model=self.pipeline,
            output_dir=f"{folder}/results",
            device=self.device,
            dtype=self.dtype,
            batch_size=batch,
            quiet=True,
            check_model=False,
            **options,
        )

    def _bare(self, plan: Any) -> float:
        method = plan.built.method
        return throughput.bare(method, method.batch_size, self.seconds)

    def _row(self, measure: str, rate: float, batch: int) -> Row:
        return {
            "measure": measure,
            "dtype": self.dtype,
            "batch": batch,
            "evaluations_per_second": rate,
            "tflops": rate * self.flops / 1e12,
        }


def _memory(network: Any, extra: dict[str, float]) -> Row:
    return {"memory_gib": weights_gib(network) + extra["gib"]} if extra else {}
