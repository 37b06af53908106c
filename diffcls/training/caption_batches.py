"""Captions of training batches, as token ids: new ones for each image seen, or from a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Caption = Callable[[int, int], str]
"""(image index, number of the caption) -> caption."""
CaptionBatch = Callable[[Tensor, "Tensor | None", int, torch.Generator], Tensor]
"""(images (B,), which of them lose their caption (B,) or None, number of the first caption,
generator) -> token ids (B, L), on the generator's device."""

POOL_CAPTIONS = 40_000
"""Captions of all classes in a pool whose size no recipe names."""
POOL_START = -1_000_000_000
"""Number of the first caption of a pool; those below 0 near it are a tokenizer's own."""


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """(B, L) token ids, padded or truncated to the tokenizer's maximum length L."""
    ids: Tensor = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids


def new_captions(tokenizer: Any, captions: Caption) -> CaptionBatch:
    """A new caption for each image each time it is seen."""

    def batch(images: Tensor, dropped: Tensor | None, first: int, rng: torch.Generator) -> Tensor:
        without = torch.zeros(len(images)) if dropped is None else dropped
        texts = [
            "" if drop else captions(int(i), first + j)
            for j, (i, drop) in enumerate(zip(images, without, strict=True))
        ]
        return tokenize(tokenizer, texts).to(rng.device)

    return batch


def pooled_captions(
    tokenizer: Any,
    captions: Caption,
    labels: Sequence[int],
    size: int,
    device: torch.device | str,
) -> CaptionBatch:
    """Captions drawn from a pool of each class, tokenized once.

    Args:
        tokenizer: tokenizer of the text encoder.
        captions: writes the pool.
        labels: (N,) class index of each image.
        size: V, number of captions of each class; 0: `POOL_CAPTIONS` divided among the classes.
        device: that of the generators.
    """
    classes = sorted(set(labels))
    size = size or max(1, POOL_CAPTIONS // len(classes))
    image_of = {label: i for i, label in enumerate(labels)}
    texts = [
        captions(image_of[label], POOL_START - row * size - number)
        for row, label in enumerate(classes)
        for number in range(size)
    ]
    flat = torch.cat([tokenize(tokenizer, texts[i : i + 4096]) for i in range(0, len(texts), 4096)])
    pool = flat.view(len(classes), size, -1).to(device)  # (K, V, L)
    row_of = {label: row for row, label in enumerate(classes)}
    rows = torch.tensor([row_of[label] for label in labels], device=device)
    empty = tokenize(tokenizer, [""]).to(device)

    def batch(images: Tensor, dropped: Tensor | None, first: int, rng: torch.Generator) -> Tensor:
        number = torch.randint(size, (len(images),), generator=rng, device=rng.device)
        ids = pool[rows[images], number]
        return ids if dropped is None else torch.where(dropped[:, None], empty, ids)

    return batch
