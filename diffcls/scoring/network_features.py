"""Network features: pooled block outputs and the prediction of a denoiser in a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from diffcls.models.unet_features import blocks, of_image, pool
from diffcls.support.errors import ModelError

MAX_FEATURES = 65_536
"""Features per forward pass; with more at the finest grid, blocks are averaged over a coarser one.

Stable Diffusion's U-Net has about 8,000 channels in its blocks, a small model a few hundred.
"""
GRIDS = (2, 1)
"""Cells per side of the grid that the outputs of blocks are averaged over, finest first; sixteen
cells found the right class of scenes no more often than four, on validation images."""
MAX_PREDICTION_SIDE = 8
"""Side that a larger prediction of the network is averaged down to."""


class NetworkFeatures:
    """What a network computes of noisy images: outputs of its blocks, and its prediction.

    Args:
        network: the network; of an analytic model (None), or one without known blocks, the
            features are those of its prediction alone.
    """

    def __init__(self, network: nn.Module | None) -> None:
        self._blocks = _blocks(network)
        self._prediction: Tensor | None = None
        self._maps: dict[str, Tensor] = {}

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Context of one forward pass, whose features are `result` then."""
        self._maps, self._prediction = {}, None
        hooks = [
            block.register_forward_hook(self._keep(name)) for name, block in self._blocks.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def keep_prediction(self, prediction: Tensor) -> None:
        """Take the prediction (B, C, h, w) of the forward pass."""
        self._prediction = prediction.detach().float()

    def result(self) -> Tensor:
        """(B, F) float32 features of the last forward pass, on the device."""
        prediction, maps = self._prediction, list(self._maps.values())
        self._maps, self._prediction = {}, None
        parts = []
        if prediction is not None:  # a loss of the bound measures more than the prediction
            side = min(MAX_PREDICTION_SIDE, *prediction.shape[2:])
            parts.append(pool(prediction, side))
        channels = sum(m.shape[1] if m.ndim == 4 else m.shape[2] for m in maps)
        grid = next((g for g in GRIDS if channels * g * g <= MAX_FEATURES), GRIDS[-1])
        parts += [pool(m, grid) for m in maps]
        return torch.cat([part.to(parts[0].device) for part in parts], dim=1)

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, out: Any) -> None:
            self._maps[name] = of_image(out).detach().float()

        return hook


def _blocks(network: nn.Module | None) -> dict[str, nn.Module]:
    if network is None:
        return {}
    try:
        return blocks(network)
    except ModelError:
        return {}
