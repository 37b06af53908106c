"""Stored images: the whole data set as bytes on one device, and batches of it as floats."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffcls.data.dataset import Dataset
from diffcls.data.transforms import load_image, to_pixels


class StoredImages:
    """All images of a data set on one device, a byte per value.

    Batches are gathered and scaled by operations on the whole batch, on the device, so that an
    accelerator waits for no loop over images. The values are those of
    `diffcls.data.transforms.to_pixels`, to the bit, on every device.

    Args:
        pixels: (N, 3, H, W) bytes.
        is_gray: whether a batch has one channel, the mean of the three.
    """

    def __init__(self, pixels: Tensor, is_gray: bool = False) -> None:
        self.pixels, self.is_gray = pixels, is_gray
        # value of each byte; a table, as accelerators round a division differently
        values = np.arange(256, dtype=np.float32) / np.float32(127.5) - np.float32(1.0)
        self._values = torch.from_numpy(values).to(pixels.device)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Images of these rows, (B, C, H, W) float32 in [−1, 1] on the device."""
        if isinstance(rows, Tensor):
            rows = rows.to(self.device)
        batch: Tensor = self._values[self.pixels[rows].int()]
        return batch.mean(dim=1, keepdim=True) if self.is_gray else batch

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        count, channels, height, width = self.pixels.shape
        return count, 1 if self.is_gray else channels, height, width

    @property
    def device(self) -> torch.device:
        """Place of the bytes and of the batches."""
        return self.pixels.device

    def to(self, device: torch.device | str) -> StoredImages:
        """The same images on another device."""
        return StoredImages(self.pixels.to(device), self.is_gray)


Images = Tensor | StoredImages
"""Training images: indexed by rows, they give a float32 batch."""


def store(data: Dataset, size: int) -> tuple[StoredImages, list[int]]:
    """All images of a data set on the CPU, `size` pixels high and wide, and their N labels."""
    parts = []
    for item in data.items:
        pixels = to_pixels(load_image(item.open()), size)
        parts.append(np.rint((pixels + 1) * 127.5).astype(np.uint8))  # the byte it was made of
    return StoredImages(torch.from_numpy(np.stack(parts))), [item.label for item in data.items]


def tensor_of(data: Dataset, size: int) -> tuple[Tensor, list[int]]:
    """All images of a data set, (N, 3, size, size) in [−1, 1], and their N labels."""
    pixels = [to_pixels(load_image(item.open()), size) for item in data.items]
    return torch.from_numpy(np.stack(pixels)), [item.label for item in data.items]
