"""A diffusion classifier with a screen, on the analytic denoiser of twelve classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.gradient import Gradient

# four families of three classes each
FAMILIES, EACH, SIDE = 4, 3, 4


K = FAMILIES * EACH


NAMES = [f"class {k}" for k in range(K)]


RNG = np.random.default_rng(11)


FAMILY = RNG.uniform(-0.6, 0.6, (FAMILIES, 1, 3, SIDE, SIDE))


MEANS = (FAMILY + RNG.uniform(-0.3, 0.3, (FAMILIES, EACH, 3, SIDE, SIDE))).reshape(K, 3, SIDE, SIDE)


MEAN_OF = {name: torch.tensor(MEANS[k], dtype=torch.float32) for k, name in enumerate(NAMES)}


B, DRAWS = 16, 20


# the first has gradient probes alone, the second also probes single classes without a gradient
SCREENS = {
    "gradient": Gradient(DRAWS, candidates=3),
    "one by one": Gradient(DRAWS, candidates=3, width=2.1),
}


each_screen = pytest.mark.parametrize("search", SCREENS.values(), ids=SCREENS)


def item(i: int) -> Item:
    rng = np.random.default_rng([i, 5])
    image = to_image(MEANS[i % K] + rng.normal(0, 0.15, MEANS[0].shape))
    return Item(f"test/{i}", i % K, lambda: image)


def items(count: int) -> list[Item]:
    return [item(i) for i in range(count)]


def method(
    search: Any, kind: type[GaussianDenoiser] = GaussianDenoiser, **options: Any
) -> DiffusionMethod:
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    model = kind(MEAN_OF, 0.15, dtype=options.pop("dtype", torch.float32))
    options = {"batch_size": B, "encode_batch": 4, "keep_errors": True, **options}
    return DiffusionMethod(model, prompts, search, **options)
