"""Text defaults: what a pipeline adds to every prompt is part of what a run is known by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.library_pipelines import Folders, folders
from helpers.references import lumina_2
from helpers.references.sana import instruction
from helpers.tiny_families import size_of
from PIL import Image

from diffcls.evaluation.run import run_evaluation
from diffcls.models.in_memory import denoiser_of
from diffcls.models.text_defaults import recorded, recorded_of, text_defaults

__all__ = ["folders"]  # fixture


def attribute(family: str, name: str) -> dict[str, str]:
    """Attribute of a pipeline without parts."""
    import diffusers

    return {name: str(getattr(getattr(diffusers, family)(*5 * [None]), name))}


DEFAULTS = {
    "sana": lambda: {"complex_human_instruction": instruction()},
    "lumina_2": lambda: attribute("Lumina2Pipeline", "system_prompt"),
    "qwen_image": lambda: attribute("QwenImagePipeline", "prompt_template_encode"),
    "ovis_image": lambda: attribute("OvisImagePipeline", "system_prompt"),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_run_records_text_defaults_and_is_found_again_without_its_model(
    name: str, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("3", "7"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (32, 32), (30 * int(label), 20, 99)).save(
            tmp_path / "photos" / label / "0.png"
        )
    options: dict[str, Any] = {
        "dataset": f"folder:{tmp_path / 'photos'}",
        "model": str(folders(name)),
        "draws": 2,
        "search": "exhaustive",
        "img_size": size_of(name),
        "output_dir": str(tmp_path / "out"),
        "quiet": True,
    }
    (row,) = run_evaluation(**options)
    (header,) = (tmp_path / "out").glob("runs/*/run.json")
    assert json.loads(json.loads(header.read_text())["spec"]["text_defaults"]) == DEFAULTS[name]()

    # described without the model, the run has the same fingerprint
    monkeypatch.setattr("diffcls.models.given.load", None)
    (again,) = run_evaluation(**options)
    assert again["fingerprint"] == row["fingerprint"] == header.parent.name


def test_other_families_record_nothing() -> None:
    for family in ("FluxPipeline", "StableDiffusionPipeline", "PRXPipeline", "NoPipeline"):
        assert recorded(family) == ""


@torch.inference_mode()
def test_system_prompt_that_was_changed_in_memory_is_used_and_recorded() -> None:
    torch.manual_seed(0)
    pipeline = lumina_2.build()
    usual = denoiser_of(pipeline, identify=False)
    assert recorded_of(usual) == recorded("Lumina2Pipeline")
    pipeline.system_prompt = "Draw."
    changed = denoiser_of(pipeline, identify=False)
    assert json.loads(recorded_of(changed)) == {"system_prompt": "Draw."}
    assert text_defaults("Lumina2Pipeline", pipeline) == {"system_prompt": "Draw."}
    one, other = (model.encode_prompts(["three"])["text"] for model in (usual, changed))
    assert not torch.allclose(one, other)
