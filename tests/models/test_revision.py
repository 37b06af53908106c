"""Revisions: whatever decides the numbers of a model is in its hash, and nothing else."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.payloads import rewrite
from safetensors.torch import load_file, save_file

from diffcls.models import clip, loading, noisy_classifier
from diffcls.models.adapters import FAMILIES
from diffcls.support.hashing import hash_file

Pipelines = Callable[[str], Path]


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(loading.WEIGHTS / "clip-digits", tmp_path / "clip"))


@pytest.mark.parametrize(
    "name",
    [
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "model.safetensors",
        "epoch_7.safetensors",
    ],
)
def test_weights_that_open_clip_reads_are_in_the_revision(clip_folder: Path, name: str) -> None:
    (clip_folder / "open_clip_model.safetensors").rename(clip_folder / name)
    before, scale = clip.read_card(clip_folder).revision, clip.load(str(clip_folder)).logit_scale
    tensors = load_file(clip_folder / name)
    tensors["logit_scale"] = tensors["logit_scale"] - 1
    save_file(tensors, clip_folder / name)
    assert clip.load(str(clip_folder)).logit_scale < scale
    assert clip.read_card(clip_folder).revision != before


def test_pickle_in_a_clip_folder_is_neither_read_nor_hashed(clip_folder: Path) -> None:
    """open_clip itself prefers this name to the safetensors file beside it."""
    (clip_folder / "open_clip_model.safetensors").rename(clip_folder / "model.safetensors")
    card, scale = clip.read_card(clip_folder), clip.load(str(clip_folder)).logit_scale
    tensors = load_file(clip_folder / "model.safetensors")
    torch.save(
        {k: torch.zeros_like(v) for k, v in tensors.items()},
        clip_folder / "open_clip_pytorch_model.bin",
    )
    assert clip.load(str(clip_folder)).logit_scale == scale
    assert clip.read_card(clip_folder) == card


def test_order_of_the_classes_of_a_noisy_classifier_is_in_its_revision(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(noisy_classifier.folder_of("noisy-digits"), tmp_path / "mine"))
    before = noisy_classifier.revision(folder)
    labels = json.loads((folder / loading.CARD).read_text())["labels"]
    rewrite(folder / loading.CARD, labels=labels[::-1])
    assert noisy_classifier.revision(folder) != before
    for name in noisy_classifier.bundled():
        bundled = noisy_classifier.folder_of(name)
        weights = hash_file(bundled / noisy_classifier.CHECKPOINT)
        assert noisy_classifier.revision(bundled) == weights


def test_every_family_has_an_adapter_and_known_parts() -> None:
    import diffusers
    import transformers

    from diffcls.models.components import NOT_EXPORTED
    from diffcls.models.families.base import PipelineDenoiser
    from diffcls.models.family_table import FAMILY_TABLE

    libraries = {
        "diffusers": dir(diffusers),
        "transformers": [*dir(transformers), *NOT_EXPORTED],
    }
    for name, family in FAMILY_TABLE.items():
        assert issubclass(FAMILIES.load(name), PipelineDenoiser)
        accepted = set(inspect.signature(getattr(diffusers, name)).parameters)
        assert set(family.parts) <= accepted
        for part, (library, pattern) in family.parts.items():
            assert any(re.fullmatch(pattern, one) for one in libraries[library]), (name, part)
