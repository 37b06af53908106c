"""Placement: a model that is moved is the model that was loaded there, in every family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_families import FAMILIES, saved

from diffcls.models import loading
from diffcls.models.placement import placed
from diffcls.support.errors import ModelError

QUICK = ("sd2", "pixart", "dit")
"""One of each kind: text, a network with computed buffers, class ids."""
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name not in QUICK]


@pytest.mark.parametrize("family", [*QUICK, *SLOW])
def test_a_denoiser_in_another_precision_predicts_as_one_that_was_loaded_in_it(
    family: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = saved(family, tmp_path_factory.getbasetemp())
    single = loading.load(str(folder))
    wanted = loading.load(str(folder), dtype=torch.bfloat16)
    moved = placed(single, "cpu", torch.bfloat16, shared=True)
    prompts = ["a photo of a 3."] if single.labels is None else ["3"]
    x_t = torch.randn(1, *single.sample_shape, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([len(single.schedule) // 2])
    before = single.predict(x_t, index, single.encode_prompts(prompts))
    outputs = [
        one.predict(x_t.to(one.dtype), index, one.encode_prompts(prompts))
        for one in (moved, wanted)
    ]
    assert (outputs[0] == outputs[1]).all() and outputs[0].dtype == torch.bfloat16
    assert (moved.sample_shape, moved.image_size) == (single.sample_shape, single.image_size)
    assert (moved.labels, moved.card) == (single.labels, single.card)
    # a copy was moved
    assert (single.predict(x_t, index, single.encode_prompts(prompts)) == before).all()


def test_an_analytic_model_is_not_moved() -> None:
    from diffcls.models.gaussian import GaussianDenoiser

    with pytest.raises(ModelError, match="cannot be moved: 'GaussianDenoiser'"):
        placed(GaussianDenoiser({"a": torch.zeros(1, 2, 2)}), "cpu", torch.float32)
