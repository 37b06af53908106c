"""DiT: a class-conditional transformer over latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.data.transforms import ADM
from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser


class DiTDenoiser(PipelineDenoiser):
    """DiT (Peebles and Xie 2023), class-conditional, with a learned variance.

    Images are resized and cropped as in its training, whose code took it from ADM.
    """

    may_learn_variance = True
    interpolation = ADM

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        # the embedding table has one more row, for "no class"
        names: list[list[str]] = [[] for _ in range(self.network.config.num_embeds_ada_norm)]
        for name, class_id in getattr(pipeline, "labels", {}).items():
            names[class_id].append(name)
        self.labels = tuple(", ".join(synonyms) for synonyms in names)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``class_id`` (P,); the empty prompt is the row for "no class"."""
        no_class = len(self.labels or ())
        ids = [int(prompt) if prompt else no_class for prompt in prompts]
        return {"class_id": torch.tensor(ids, device=self.device)}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(x_t, timestep=timestep, class_labels=cond["class_id"]).sample
        return out
