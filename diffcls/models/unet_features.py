"""Feature extractor: pooled block outputs of a denoiser's network, for linear probes.

As in the published baseline "SD Features": a slightly noisy image with the empty prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcls.diffusion.draws import noise
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.support.errors import ModelError, UsageError


def blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a U-Net in order, or those of a transformer at each quarter of its depth.

    Raises:
        ModelError: for another architecture.
    """
    named: dict[str, nn.Module] = {}
    for part in ("down_blocks", "mid_block", "up_blocks"):
        module = getattr(network, part, None)
        if isinstance(module, nn.ModuleList):
            named.update({f"{part}.{i}": block for i, block in enumerate(module)})
        elif module is not None:
            named[part] = module
    for part in ("transformer_blocks", "blocks"):
        module = getattr(network, part, None)
        if not named and isinstance(module, nn.ModuleList):
            depth = len(module)
            chosen = sorted({max(0, depth * quarter // 4 - 1) for quarter in (1, 2, 3, 4)})
            named.update({f"{part}.{i}": module[i] for i in chosen})
    if not named:
        raise ModelError("cannot extract features of this network", given=type(network).__name__)
    return named


class FeatureReader:
    """Feature extractor with one forward pass per timestep.

    Args:
        denoiser: a model with a network of diffusers.
        seed: seed of the noise, which all images share.

    Attributes:
        on_read: called with the number of images after each forward pass, for a progress bar.

    Raises:
        ModelError: for a network without known blocks.
        UsageError: for a class-conditional model.
    """

    def __init__(self, denoiser: Denoiser, seed: int) -> None:
        self.denoiser = denoiser
        if denoiser.network is None:
            raise ModelError(
                "features need a model with a neural network", given=denoiser.card.name
            )
        if denoiser.labels is not None:
            raise UsageError(
                "features need the empty prompt, and the model is class-conditional",
                given=denoiser.card.name,
                todo="choose a text-to-image model",
            )
        self.blocks = blocks(denoiser.network)
        self._empty: Conditioning = denoiser.encode_prompts([""])
        self._noise = noise(seed, 0, denoiser.sample_shape).to(denoiser.device)
        self.on_read: Callable[[int], object] = lambda images: None

    @torch.inference_mode()
    def read(self, x0: Tensor, index: int, names: Sequence[str], grid: int) -> dict[str, Tensor]:
        """Features of a batch.

        Args:
            x0: (B, C, h, w) images or latents.
            index: index into the schedule.
            names: names of the blocks.
            grid: feature maps are averaged over each of grid × grid equal parts.

        Returns:
            Name -> (B, D) float32 on the CPU.
        """
        schedule, features = self.denoiser.schedule, {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, given: Any, out: Any) -> None:
                features[name] = pool(of_image(out), grid).cpu()

            return hook

        hooks = [self.blocks[name].register_forward_hook(keep(name)) for name in names]
        try:
            x_t = float(schedule.alpha[index]) * x0 + float(schedule.sigma[index]) * self._noise
            first = torch.zeros(len(x0), dtype=torch.long, device=self.denoiser.device)
            rows = self._empty.rows(first)
            steps = torch.full((len(x0),), index, device=x0.device)
            self.denoiser.predict(x_t.to(self.denoiser.dtype), steps, rows)
        finally:
            for hook in hooks:
                hook.remove()
        self.on_read(len(x0))
        return features


def of_image(out: Any) -> Tensor:
    """The image features among the outputs of a block."""
    if not isinstance(out, tuple):
        features: Tensor = out
    else:  # (text, image) of a transformer, or (image, skip connections) of a U-Net
        features = out[-1] if isinstance(out[-1], Tensor) else out[0]
    return features


def pool(out: Tensor, grid: int) -> Tensor:
    """(B, C, h, w) -> (B, C·grid²), or tokens (B, L, C) -> (B, C), float32 on their device."""
    if out.ndim == 3:
        return out.float().mean(dim=1)
    return F.adaptive_avg_pool2d(out.float(), grid).flatten(1)
