"""Samples of a learned class: plain diffusers loads the new word, an independent CLIP judges."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.few_shot_tasks import NewClass
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.concepts.task import Learned

SAMPLES, STEPS, GUIDANCE = 100, 30, 3.0


def agreement(new: NewClass, learned: Learned) -> dict[str, Any]:
    """How many samples of the new word show the class, by the task's CLIP among all classes.

    Args:
        new: the class.
        learned: the new word; its file is read by diffusers' ``load_textual_inversion``.
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
    """Images that a plain pipeline of diffusers generates with the learned word."""
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    from diffcls.models import loading
    from diffcls.models.quiet import quiet

    with quiet(), tempfile.TemporaryDirectory() as folder:
        pipeline = StableDiffusionPipeline.from_pretrained(loading.find(model).path)
        path = Path(folder) / learned.file
        save_file(dict(learned.tensors), path)
        pipeline.load_textual_inversion(path)
    pipeline.set_progress_bar_config(disable=True)
    images: list[Image.Image] = pipeline(
        [prompt] * count,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator().manual_seed(i) for i in range(count)],
    ).images
    return images


class Judge:
    """Zero-shot CLIP: images -> (B,) classes.

    Args:
        name: name of the model.
        names: (K,) names of the classes.
        templates: prompt templates with ``{}``.
    """

    def __init__(self, name: str, names: Sequence[str], templates: Sequence[str]) -> None:
        from diffcls.data.prompts import PromptSet
        from diffcls.models import clip

        self._model = clip.load(name)
        prompts = PromptSet.from_templates(names, templates)
        self._head = self._model.classifier(prompts.prompts, prompts.class_of)

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.int64]:
        import torch

        pixels = [np.asarray(self._model.preprocess(one), np.float32) for one in pictures]
        logits = self._model.embed(torch.from_numpy(np.stack(pixels))) @ self._head.T
        scores: Float64 = logits.double().numpy()
        classes: NDArray[np.int64] = scores.argmax(axis=1)
        return classes


@cache
def _judge(name: str, names: tuple[str, ...], templates: tuple[str, ...]) -> Judge:
    return Judge(name, names, templates)
