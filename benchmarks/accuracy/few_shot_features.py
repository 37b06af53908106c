"""Features of the nearest class mean: of the diffusion model's network, and of a CLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from diffcls.support.types import Float64

if TYPE_CHECKING:
    from diffcls.data.dataset import Item

BATCH = 64
Read = Callable[[Sequence["Item"]], Mapping[str, Float64]]
"""Features (B, D) of B images at each place where they can be read."""


@cache
def of_clip(name: str) -> Read:
    """Reader of the image embeddings of a CLIP, its only place."""
    import torch

    from diffcls.models import clip

    model = clip.load(name)

    def read(items: Sequence[Item]) -> Mapping[str, Float64]:
        pixels = [np.asarray(model.preprocess(item.open()), np.float32) for item in items]
        return {"embedding": model.embed(torch.from_numpy(np.stack(pixels))).double().numpy()}

    return _remembered(read)


@cache
def of_model(name: str) -> Read:
    """Reader of all blocks of a diffusion model's network, at several timesteps and poolings.

    The places are those that the linear probe chooses from, see `diffcls.classifiers.sd_features`.
    """
    import torch

    from diffcls.classifiers.sd_features import GRIDS, TIMES
    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.models import given
    from diffcls.models.unet_features import FeatureReader

    denoiser = given.load(name, "cpu", None, None)
    reader = FeatureReader(denoiser, seed=0)
    indices = [int(time * len(denoiser.schedule)) for time in TIMES]

    def read(items: Sequence[Item]) -> Mapping[str, Float64]:
        images = [to_pixels(load_image(item.open()), denoiser.image_size) for item in items]
        x0 = denoiser.encode_images(torch.from_numpy(np.stack(images)))
        found = {}
        for index in indices:
            blocks = reader.read(x0, index, list(reader.blocks), max(GRIDS))
            for block, cells in blocks.items():
                # (B, C·g²) -> (B, C, g²), whose mean is the pooling of the whole map
                grid = cells.double().reshape(len(items), -1, max(GRIDS) ** 2)
                found[f"{block} at {index}"] = grid.mean(dim=2).numpy()
                found[f"{block} at {index}, cells"] = grid.flatten(1).numpy()
        return found

    return _remembered(read)


def _remembered(read: Read) -> Read:
    """The same reader in batches; an image that was read already is not read again."""
    known: dict[int, Mapping[str, Float64]] = {}

    def again(items: Sequence[Item]) -> Mapping[str, Float64]:
        # image ids are unique in a split only, and the tasks keep their items
        missing = list({id(item): item for item in items if id(item) not in known}.values())
        for first in range(0, len(missing), BATCH):
            batch = missing[first : first + BATCH]
            found = read(batch)
            for i, item in enumerate(batch):
                known[id(item)] = {place: rows[i] for place, rows in found.items()}
        rows = [known[id(item)] for item in items]
        return {place: np.stack([row[place] for row in rows]) for place in rows[0]}

    return again
