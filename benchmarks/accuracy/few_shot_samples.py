"""Samples of a learned class: plain diffusers loads the file, an independent CLIP judges."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.accuracy.few_shot_tasks import NewClass
from benchmarks.accuracy.judge import Judge

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.concepts.task import Learned

SAMPLES, STEPS, GUIDANCE = 100, 30, 3.0


def agreement(new: NewClass, learned: Learned) -> dict[str, Any]:
    """How many samples of the new word show the class, by the task's CLIP among all classes.

    Args:
        new: the class.
        learned: what was learned; its file is read by diffusers' ``load_textual_inversion`` or
            ``load_lora_weights``.
    """
    prompt = new.templates[0].replace("{}", learned.phrase)
    judge = _judge(new.task.clip, new.names, new.templates)
    seen = judge(samples(new.model, learned, prompt, SAMPLES))
    real = [item.open() for item in new.own]
    return {
        "agreed": int((seen == new.label).sum()),
        "samples": SAMPLES,
        "judge_right": int((judge(real) == new.label).sum()),
        "judge_images": len(real),
    }


def samples(model: str, learned: Learned, prompt: str, count: int) -> list[Image.Image]:
    """Images that a plain pipeline of diffusers generates with what was learned."""
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    from diffcls.models import loading
    from diffcls.models.quiet import quiet

    with quiet(), tempfile.TemporaryDirectory() as folder:
        pipeline = StableDiffusionPipeline.from_pretrained(loading.find(model).path)
        path = Path(folder) / learned.file
        save_file(dict(learned.tensors), path)
        if learned.vectors:
            pipeline.load_textual_inversion(path)
        else:
            pipeline.load_lora_weights(path)
    pipeline.set_progress_bar_config(disable=True)
    images: list[Image.Image] = pipeline(
        [prompt] * count,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator().manual_seed(i) for i in range(count)],
    ).images
    return images


@cache
def _judge(name: str, names: tuple[str, ...], templates: tuple[str, ...]) -> Judge:
    return Judge(name, names, templates)
