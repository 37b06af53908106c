"""Independent classifier of generated and edited images: a CLIP without common weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.support.types import Float64

if TYPE_CHECKING:
    from PIL import Image


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
