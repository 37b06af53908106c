"""Parts of a training script make the pipeline that the script would make of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_families import FAMILIES, dit, sd1, sdxl, size_of

from diffcls.integrations import ZeroShotAccuracy
from diffcls.integrations.pipelines import NAMES, network_of, pipeline_of
from diffcls.models import adapters
from diffcls.support.errors import UsageError


def parts_of(pipeline: Any) -> dict[str, Any]:
    own = pipeline.components
    return {name: own[name] for name in NAMES if own.get(name) is not None}


FAST = ("sd1", "dit")
EACH = [pytest.param(f, marks=() if f in FAST else pytest.mark.slow) for f in FAMILIES]


@pytest.mark.parametrize("family", EACH)
def test_parts_of_every_family_are_measured_as_their_pipeline(family: str) -> None:
    torch.manual_seed(0)
    pipeline = FAMILIES[family]()
    parts = parts_of(pipeline)
    made = pipeline_of(None, parts)
    adapter = adapters.FAMILIES[type(pipeline).__name__]
    assert adapters.FAMILIES[type(made).__name__] == adapter
    accuracy = ZeroShotAccuracy(
        every=1, dataset="digits", images=4, draws=2, img_size=size_of(family)
    )
    results = [accuracy(pipeline, 1), accuracy(None, 2, **parts)]
    assert results[0] is not None and results[1] is not None
    assert results[0].accuracy == results[1].accuracy
    assert results[0].n_scored == 4


def test_a_part_beside_a_pipeline_replaces_its_own_and_neither_is_changed() -> None:
    pipeline, other = sd1(), sd1().unet
    scheduler = pipeline.scheduler
    before = dict(scheduler.config), dict(pipeline.config), dict(other.config)
    made = pipeline_of(pipeline, {"unet": torch.compile(other)})
    ours = list(made.unet.parameters())
    assert all(a is b for a, b in zip(ours, other.parameters(), strict=True))
    assert made.vae is pipeline.vae
    assert network_of(pipeline) is pipeline.unet
    assert (dict(scheduler.config), dict(pipeline.config), dict(other.config)) == before
    assert pipeline_of(pipeline, {}) is pipeline


def test_the_family_that_uses_most_of_the_parts_is_made() -> None:
    whole = parts_of(sdxl())
    assert type(pipeline_of(None, whole)).__name__ == "StableDiffusionXLPipeline"
    assert type(pipeline_of(None, parts_of(dit()))).__name__ == "DiTPipeline"
    with pytest.raises(UsageError, match="no pipeline of a supported family"):
        pipeline_of(None, {"unet": whole["unet"], "scheduler": whole["scheduler"]})
