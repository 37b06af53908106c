"""Small residual classifier, for the supervised baselines.

A pre-activation residual network (He et al. 2016b) with group normalisation (Wu and He 2018), so
that averaged weights need no recomputed normalisation statistics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (32, 64, 128)


class Block(nn.Module):
    """Residual block: x + conv(relu(norm(conv(relu(norm(x)))))); `stride` 2 halves the side."""

    def __init__(self, reads: int, writes: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, reads), nn.GroupNorm(8, writes)
        self.conv1 = nn.Conv2d(reads, writes, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(writes, writes, 3, 1, 1, bias=False)
        same = reads == writes and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(reads, writes, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        active = F.relu(self.norm1(x))
        out = self.conv2(F.relu(self.norm2(self.conv1(active))))
        total: Tensor = out + self.skip(active if not isinstance(self.skip, nn.Identity) else x)
        return total


class SmallResNet(nn.Module):
    """Residual network: (B, 3, 32, 32) images in [−1, 1] -> (B, K) logits.

    Args:
        classes: K, the number of classes.
        widths: channels at 16, 8 and 4 pixels; two blocks each.
        channels: number of channels of the images.
    """

    def __init__(self, classes: int, widths: tuple[int, ...] = WIDTHS, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, 2, 1, bias=False)
        blocks, reads = [], widths[0]
        for level, width in enumerate(widths):
            blocks += [Block(reads, width, 1 if level == 0 else 2), Block(width, width, 1)]
            reads = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.GroupNorm(8, reads)
        self.head = nn.Linear(reads, classes)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, D) inputs of the last layer."""
        out: Tensor = F.relu(self.norm(self.blocks(self.stem(images)))).mean(dim=(2, 3))
        return out

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, K) logits."""
        logits: Tensor = self.head(self.features(images))
        return logits


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """(N, 3, H, W) -> (N, K) logits, batch by batch."""
    return torch.cat([model(part) for part in images.split(batch_size)])
