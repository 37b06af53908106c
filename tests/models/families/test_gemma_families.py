"""Sana, Lumina and PRX: what their pipelines predict, from texts of Gemma's encoders."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.library_pipelines import Folders, folders, opened_by_hand
from helpers.log_messages import own_messages
from helpers.references.sana import instruction
from helpers.tiny_families import loaded
from torch import Tensor

from diffcls.models import loading
from diffcls.support.errors import ModelError, UsageError

__all__ = ["folders"]  # fixture

TEXTS = ["a photo of a three", "Zero", "a photo of handwritten digit seven."]
UNBINNED = {"use_resolution_binning": False}
CALLS: dict[str, dict[str, Any]] = {
    "sana": {"height": 32, "width": 32, **UNBINNED},
    "lumina": {"height": 32, "width": 32},
    "lumina_2": {"height": 32, "width": 32},
    "prx": UNBINNED,
    "prx_deep_compression": UNBINNED,
    # without an autoencoder the pipeline divides the size by 8 all the same
    "prx_pixels": {"height": 256, "width": 256, **UNBINNED},
}


def called(pipe: Any, prompt: str, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What the scheduler receives in the first step of a call: x_t, timestep, noise − x0."""
    received: list[tuple[Tensor, Tensor, Tensor]] = []
    step = pipe.scheduler.step

    def noted(output: Tensor, t: Tensor, x_t: Tensor, **kwargs: Any) -> Any:
        received.append((x_t, t, output))
        return step(output, t, x_t, **kwargs)

    pipe.scheduler.step = noted
    try:
        generator = torch.Generator().manual_seed(5)
        pipe.set_progress_bar_config(disable=True)
        options |= {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent"}
        pipe(prompt, generator=generator, **options)
    finally:
        del pipe.scheduler.step
    return received[0]


@pytest.mark.parametrize("name", CALLS)
@torch.inference_mode()
def test_prediction_is_what_the_scheduler_receives_in_the_pipelines_own_call(
    folders: Folders, name: str
) -> None:
    """The prompts are encoded together here, and each alone by the pipeline."""
    model, pipe = loaded(folders(name)), opened_by_hand(folders(name))
    cond = model.encode_prompts(TEXTS)
    for row, text in enumerate(TEXTS):
        x_t, t, theirs = called(pipe, text, **CALLS[name])
        assert x_t.shape[1:] == model.sample_shape
        time = t.reshape(1).float() / 1000 * model.time_scale
        mine = model._forward(x_t.float(), time, cond.rows(torch.tensor([row])))
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


# ---- Sana ---------------------------------------------------------------------------------------


@torch.inference_mode()
def test_sanas_instruction_changes_the_encoding(folders: Folders) -> None:
    model, pipe = loaded(folders("sana")), opened_by_hand(folders("sana"))
    mine = model.encode_prompts(TEXTS[:1])["text"]
    without, *_ = pipe.encode_prompt(TEXTS[:1], False)
    assert (mine - without).abs().max() > 1e-2


def test_truncation_is_reported_by_the_prompt_without_the_instruction(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    model, prompt = loaded(folders("sana")), "Three" + " photo" * 100
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        model.encode_prompts([prompt])
    (message,) = own_messages(caplog)
    assert repr(prompt) in message and instruction()[0] not in message


# ---- Lumina-Image 2 -----------------------------------------------------------------------------


@torch.inference_mode()
def test_rows_of_lumina_do_not_depend_on_the_lengths_of_their_neighbours(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(folders("lumina_2"))
    cond = model.encode_prompts(["three", "a photo of a seven", "photo " * 100])
    lengths = cond["mask"].sum(dim=1)
    assert lengths[2] == cond["mask"].shape[1] and len(set(lengths.tolist())) == 3
    x_t = torch.randn(8, *model.sample_shape, generator=torch.Generator().manual_seed(1))
    index = torch.full((8,), 300)

    def first_of(first: int, others: int) -> Tensor:
        rows = torch.tensor([first] + 7 * [others])
        out: Tensor = model.predict(x_t, index, cond.rows(rows))[0]
        return out

    for row in range(3):
        alike = [first_of(row, others) for others in range(3)]
        assert torch.equal(alike[0], alike[1]) and torch.equal(alike[0], alike[2])
    assert not model.network.rope_embedder._forward_hooks
    # the network's own way, by the longest prompt of the batch
    monkeypatch.setattr(
        "diffcls.models.families.lumina_2._at_full_length", lambda _, inputs, output: output
    )
    own = [first_of(0, others) for others in range(3)]
    assert not (torch.equal(own[0], own[1]) and torch.equal(own[0], own[2]))
    torch.testing.assert_close(own[2], first_of(0, 0), rtol=1e-5, atol=1e-5)


# ---- PRX ----------------------------------------------------------------------------------------


def test_latents_without_their_autoencoder_are_refused(folders: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders("prx"), tmp_path / "prx"))
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vae": [None, None]}))
    with pytest.raises(ModelError, match=r"autoencoder of the model is missing: .*of 4 channels"):
        loading.load(str(folder))


def test_sizes_of_prx_are_in_pixels(folders: Folders) -> None:
    shapes = {"prx": (4, 4, 4), "prx_deep_compression": (4, 8, 8), "prx_pixels": (3, 32, 32)}
    for name, shape in shapes.items():
        model = loading.load(str(folders(name)))
        assert model.image_size == 32 and model.sample_shape == shape
    with pytest.raises(UsageError, match=r"image size does not fit.*multiple of 8"):
        loading.load(str(folders("prx_pixels")), img_size=36)


def test_prx_needs_ftfy(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.utils.is_ftfy_available", lambda: False)
    with pytest.raises(UsageError, match=r"cleans prompts with ftfy.*diffcls\[captions\]"):
        loading.load(str(folders("prx")))


def test_prompts_that_prx_cleans_to_one_text_have_equal_keys(folders: Folders) -> None:
    one, same, other = loaded(folders("prx")).prompt_keys(["A (red) *pet*", "a red pet", "a pet"])
    assert one == same != other
