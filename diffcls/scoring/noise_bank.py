"""Noise bank: the noise tensors of all draws, cached on the device."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from diffcls.diffusion.draws import DrawPlan, noise
from diffcls.support.errors import UsageError


class NoiseBank:
    """Cache of the draws' noise on the device, filled on demand.

    Args:
        plan: the draws, with their seed and optional noise file.
        shape: (C, h, w) of one draw.
        device: device of the tensors.
        max_bytes: maximum size of the cache in bytes, of at least one draw; the least recently used
            draw is dropped first, and recomputed bit for bit when it is needed again.
    """

    def __init__(
        self,
        plan: DrawPlan,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        max_bytes: int = 512 << 20,
    ) -> None:
        self.plan = plan
        self.shape = tuple(shape)
        self.device = device
        size = 4 * int(np.prod(self.shape))
        self._capacity = max(1, max_bytes // size)
        self._cache: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._from_file = load_noise(plan.noise_path, self.shape) if plan.noise_path else None

    def __getitem__(self, draw: int) -> torch.Tensor:
        """(C, h, w) float32 noise of `draw`, on the device."""
        cached = self._cache.get(draw)
        if cached is None:
            if self._from_file is not None and draw < len(self._from_file):
                tensor = self._from_file[draw]
            else:
                tensor = noise(self.plan.seed, draw, self.shape)
            cached = self._cache[draw] = tensor.to(self.device)
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(draw)
        return cached


def load_noise(path: str | Path, shape: Sequence[int]) -> torch.Tensor:
    """(N, C, h, w) float32 noise from a ``.safetensors`` or a weights-only ``.pt`` file.

    Args:
        path: the file.
        shape: (C, h, w) of one draw.

    Raises:
        UsageError: for a file that is missing, contains anything but one tensor of that shape, or
            values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            "--noise-path: noise file not found", given=str(path), todo="check the path"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"--noise-path: cannot read noise file ({type(error).__name__})",
            given=str(path),
            allowed="a .safetensors or a weights-only .pt file",
        ) from error
    if isinstance(loaded, dict) and len(loaded) == 1:
        loaded = next(iter(loaded.values()))
    expected = f"one tensor of shape (N, {', '.join(map(str, shape))})"
    fits = isinstance(loaded, torch.Tensor) and loaded.shape[1:] == tuple(shape) and len(loaded)
    if not isinstance(loaded, torch.Tensor) or not fits:
        given = tuple(loaded.shape) if isinstance(loaded, torch.Tensor) else type(loaded).__name__
        raise UsageError(
            "--noise-path: noise does not fit the model", given=given, allowed=expected
        )
    if not torch.isfinite(loaded).all():
        raise UsageError(
            "--noise-path: noise is not finite", given=str(path), allowed="finite values"
        )
    return loaded.detach().float()
