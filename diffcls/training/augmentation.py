"""Augmentation: random changes of training images that keep their class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcls.training.recipes import Augmentation


def augment(images: Tensor, ranges: Augmentation, rng: torch.Generator) -> Tensor:
    """(B, 3, H, W) images in [−1, 1], each changed at random within `ranges`."""
    grid = _affine_grid(images, ranges, rng)
    if ranges.warp:
        # a coarse random field, smoothed by interpolation: (B, 2, 4, 4) -> (B, H, W, 2)
        field = (
            torch.randn(len(images), 2, 4, 4, generator=rng, device=rng.device) * 2 * ranges.warp
        )
        field = F.interpolate(field, images.shape[2:], mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    out = F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)
    if ranges.contrast:
        gain = 1 + _uniform((len(images), 1, 1, 1), rng) * ranges.contrast
        out = (out + 1) * gain - 1
    return out.clamp(-1, 1)


def _affine_grid(images: Tensor, ranges: Augmentation, rng: torch.Generator) -> Tensor:
    """(B, H, W, 2) sampling positions: rotation, scale, shear, translation and mirroring."""
    count, _, height, width = images.shape
    angle = _uniform((count,), rng) * math.radians(ranges.degrees)
    size = 1 + _uniform((count,), rng) * ranges.scale
    shear = _uniform((count,), rng) * ranges.shear
    shift = _uniform((count, 2), rng) * 2 * ranges.shift  # a side is 2 long in grid coordinates
    flipped = torch.rand(count, generator=rng, device=rng.device) < (0.5 if ranges.flip else 0.0)
    mirror = torch.where(flipped, -1.0, 1.0)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    rows = torch.stack([mirror * cos, shear * cos - sin, shift[:, 0]], 1)
    rows = torch.cat([rows, torch.stack([mirror * sin, shear * sin + cos, shift[:, 1]], 1)], 1)
    return F.affine_grid(rows.view(count, 2, 3), [count, 3, height, width], align_corners=False)


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device) * 2 - 1


def mirrored(images: Tensor, flip: bool, rng: torch.Generator) -> Tensor:
    """(B, C, H, W) images, each mirrored with probability ½ if `flip`."""
    if not flip:
        return images
    chosen = torch.rand(len(images), generator=rng, device=rng.device) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)
