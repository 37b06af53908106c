"""What a denoiser's network sees of an image on the way: outputs of its blocks, pooled.

As in the published baseline "SD Features": an image, a little noise, the empty prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcls.diffusion.draws import noise
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.support.errors import ModelError, UsageError


def blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a U-Net from first to last, or of a transformer at each quarter of its depth.

    Raises:
        ModelError: for a network that has neither.
    """
    found: dict[str, nn.Module] = {}
    for part in ("down_blocks", "mid_block", "up_blocks"):
        module = getattr(network, part, None)
        if isinstance(module, nn.ModuleList):
            found.update({f"{part}.{i}": block for i, block in enumerate(module)})
        elif module is not None:
            found[part] = module
    for part in ("transformer_blocks", "blocks"):
        module = getattr(network, part, None)
        if not found and isinstance(module, nn.ModuleList):
            depth = len(module)
            chosen = sorted({max(0, depth * quarter // 4 - 1) for quarter in (1, 2, 3, 4)})
            found.update({f"{part}.{i}": module[i] for i in chosen})
    if not found:
        raise ModelError("no blocks known of this network", given=type(network).__name__)
    return found


class FeatureReader:
    """Features of images, one forward pass a timestep.

    Args:
        denoiser: a model whose network diffusers made.
        seed: keys the noise, which all images share.

    Raises:
        ModelError: for a network without known blocks.
        UsageError: for a model that reads class ids.
    """

    def __init__(self, denoiser: Denoiser, seed: int) -> None:
        self.denoiser = denoiser
        if denoiser.network is None:
            raise ModelError(
                "features need a model with a neural network", given=denoiser.card.name
            )
        if denoiser.labels is not None:
            raise UsageError(
                "the model reads class ids: it has no empty prompt to be shown images with",
                given=denoiser.card.name,
                todo="choose a text-to-image model",
            )
        self.blocks = blocks(denoiser.network)
        self._empty: Conditioning = denoiser.encode_prompts([""])
        self._noise = noise(seed, 0, denoiser.sample_shape).to(denoiser.device)

    @torch.inference_mode()
    def read(self, x0: Tensor, index: int, names: Sequence[str], grid: int) -> dict[str, Tensor]:
        """Features of a batch.

        Args:
            x0: (B, C, h, w) images or latents.
            index: into the schedule.
            names: of the blocks.
            grid: a map of features is averaged over each of grid × grid equal parts.

        Returns:
            Name -> (B, D) float32 on the CPU.
        """
        schedule, held = self.denoiser.schedule, {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, given: Any, out: Any) -> None:
                held[name] = pool(of_image(out), grid)

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
        return held


def of_image(out: Any) -> Tensor:
    """What a block says of the image, of all that it returns."""
    if not isinstance(out, tuple):
        found: Tensor = out
    else:  # (text, image) of a transformer, or (image, what skips the middle) of a U-Net
        found = out[-1] if isinstance(out[-1], Tensor) else out[0]
    return found


def pool(out: Tensor, grid: int) -> Tensor:
    """(B, C, h, w) -> (B, C·grid²), or tokens (B, L, C) -> (B, C), float32 on the CPU."""
    if out.ndim == 3:
        return out.float().mean(dim=1).cpu()
    return F.adaptive_avg_pool2d(out.float(), grid).flatten(1).cpu()
