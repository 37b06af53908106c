"""Packing of latents: 2×2 patches as channels or as tokens, and the positions of tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def patches(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 4·C, h/2, w/2): a patch of 2×2 in the channels, c before row and column.

    The order of Flux (Black Forest Labs 2024): channel 4·c + 2·row + column.
    """
    count, channels, height, width = x.shape
    # (B, C, h, w) -> (B, C, h/2, 2, w/2, 2) -> (B, C, 2, 2, h/2, w/2) -> (B, 4·C, h/2, w/2)
    x = x.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(count, 4 * channels, height // 2, width // 2)


def unpatched(x: Tensor) -> Tensor:
    """(B, 4·C, h, w) -> (B, C, 2·h, 2·w), the inverse of `patches`."""
    count, channels, height, width = x.shape
    # (B, 4·C, h, w) -> (B, C, 2, 2, h, w) -> (B, C, h, 2, w, 2) -> (B, C, 2·h, 2·w)
    x = x.reshape(count, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(count, channels // 4, 2 * height, 2 * width)


def tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h·w, C): one token a position, row by row."""
    return x.flatten(2).transpose(1, 2)


def untokened(x: Tensor, rows: int, columns: int) -> Tensor:
    """(B, rows·columns, C) -> (B, C, rows, columns), the inverse of `tokens`."""
    return x.transpose(1, 2).unflatten(2, (rows, columns))


def positions(rows: int, columns: int) -> Tensor:
    """(rows·columns, 3): 0, row and column of each token."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).reshape(-1, 3)
