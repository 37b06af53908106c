"""Self-test of a diffusion model on images of the data set; see `diffcls.models.self_test`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray

from diffcls.data.dataset import Item
from diffcls.models.control import plain
from diffcls.models.denoiser import Denoiser
from diffcls.models.self_test import check_model
from diffcls.support.errors import DataError


def check_on_items(
    denoiser: Denoiser,
    items: Sequence[Item],
    read: Callable[[Item], NDArray[np.float32]],
    prompt_of: Callable[[Item], str],
) -> None:
    """Test a model on the images that can be read, if there are two or more.

    Args:
        denoiser: the model.
        items: images.
        read: item -> (3, H, W) as the model receives it.
        prompt_of: item -> the prompt of its class.

    Raises:
        ModelError: see `diffcls.models.self_test.check_model`.
    """
    readable: list[tuple[NDArray[np.float32], str]] = []
    for item in items:
        # a failure is recorded when the image is scored
        with suppress(DataError, OSError, ValueError):
            readable.append((read(item), prompt_of(item)))
    if len(readable) > 1:
        pixels, prompts = zip(*readable, strict=True)
        # the maps say nothing of how an output is to be read
        check_model(plain(denoiser), torch.from_numpy(np.stack(pixels)), prompts)
