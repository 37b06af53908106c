"""Origin of weights in memory: known weights are recognised, and changed ones are not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.payloads import rewrite
from helpers.pipeline_states import built

from diffcls.models import loading
from diffcls.models.in_memory import card_of, images_seen, known_card

DIGITS = loading.WEIGHTS / "digits"


def opened(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    import diffusers

    return diffusers.DiffusionPipeline.from_pretrained(str(folder), dtype=dtype)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DIGITS, tmp_path / "mine"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bundled_model_is_recognised_wherever_it_lies(copied: Path, dtype: torch.dtype) -> None:
    (copied / "diffcls.json").unlink()  # by its weights alone
    own, moved = loading.read_card(loading.find("digits")), known_card(opened(copied, dtype))
    assert moved.is_traced and moved.trained_on == own.trained_on == ("digits",)
    assert moved.temperature == own.temperature and moved.allocation == own.allocation
    assert moved.name == "in-memory StableDiffusionPipeline (digits)"
    assert images_seen(opened(copied)) == loading.images_seen("digits")


def test_class_names_and_temperature_are_in_the_revision() -> None:
    from diffcls.models.pipeline_revision import revision_of
    from diffcls.models.revision import with_card

    pipeline = opened(loading.WEIGHTS / "digits-pixels")
    card = card_of(pipeline)
    assert card.labels == loading.read_card(loading.find("digits-pixels")).labels
    assert card.revision == with_card(revision_of(pipeline), card) != revision_of(pipeline)


@torch.no_grad()
def test_changed_weights_are_no_longer_traced_but_what_was_seen_stays_known(copied: Path) -> None:
    for folder in (DIGITS, copied):
        pipeline = opened(folder)
        pipeline.unet.conv_out.bias[0] += 1e-3
        card = known_card(pipeline)
        assert not card.is_traced and card.trained_on == ("digits",)
        assert card.temperature == 1.0 and card.name == "in-memory StableDiffusionPipeline"
        assert images_seen(pipeline) is None
    (copied / "diffcls.json").unlink()
    assert known_card(pipeline).trained_on == ()  # nothing is known of it any more


def test_the_card_of_a_folder_counts_while_its_weights_are_those_in_memory(copied: Path) -> None:
    rewrite(copied / "diffcls.json", name="Mine", trained_on=["folder:cats"], temperature=0.5)
    card = known_card(opened(copied))
    assert card.is_traced and card.name == "in-memory StableDiffusionPipeline (Mine)"
    assert card.trained_on == ("folder:cats",) and card.temperature == 0.5


def test_weights_of_no_file_are_of_unknown_origin() -> None:
    for name in ("sd1", "flux", "class_unet"):
        card = known_card(built(name))
        assert not card.is_traced and card.trained_on == () and card.temperature == 1.0
