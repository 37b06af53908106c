"""HunyuanDiT, Kandinsky 3 and DeepFloyd IF: their networks receive what the pipelines give them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.library_pipelines import Folders, folders, opened_by_hand
from helpers.tiny_families import loaded
from torch import Tensor

from diffcls.models import loading, text_defaults
from diffcls.models.families import cleaned_captions
from diffcls.support.errors import UsageError

__all__ = ["folders"]  # fixture

TEXTS = ["a photo of a three", "zero", "a photo of handwritten digit seven."]
CALLS: dict[str, dict[str, Any]] = {
    "hunyuan_dit": {
        "height": 32,
        "width": 32,
        "use_resolution_binning": False,
        "output_type": "latent",
    },
    "kandinsky_3": {"height": 64, "width": 64, "output_type": "latent"},
    "deepfloyd_if": {"output_type": "pt"},
}


def called(pipe: Any, network: Any, prompt: str, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, timestep and output of the network in the first step of the pipeline's ``__call__``."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def note(_: Any, inputs: Any, output: Any) -> None:
        seen.append((inputs[0], torch.as_tensor(inputs[1]), output[0]))

    handle = network.register_forward_hook(note)
    try:
        generator = torch.Generator().manual_seed(5)
        pipe.set_progress_bar_config(disable=True)
        pipe(prompt, num_inference_steps=2, guidance_scale=1.0, generator=generator, **options)
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", CALLS)
@torch.inference_mode()
def test_output_is_that_of_the_pipelines_own_call(folders: Folders, name: str) -> None:
    """The prompts are encoded together here, and each alone by the pipeline."""
    model, pipe = loaded(folders(name)), opened_by_hand(folders(name))
    cond = model.encode_prompts(TEXTS)
    for row, text in enumerate(TEXTS):
        x_t, t, theirs = called(pipe, getattr(pipe, model.part), text, **CALLS[name])
        if name == "hunyuan_dit":  # the sizes that the network reads are those of the latents
            assert x_t.shape[2:] == (4, 4)
        time = t.reshape(-1).to(torch.float32)
        mine = model._forward(x_t, time, cond.rows(torch.tensor([row])))
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_pooling_with_padding_would_be_seen(folders: Folders) -> None:
    model = loaded(folders("kandinsky_3"))
    pooling = model.network.add_time_condition.attention
    cond, x_t = model.encode_prompts(TEXTS[:1]), torch.ones(1, *model.sample_shape)
    right = model.predict(x_t, torch.tensor([500]), cond)
    hooks = dict(pooling._forward_pre_hooks)
    pooling._forward_pre_hooks.clear()
    try:
        padded = model.predict(x_t, torch.tensor([500]), cond)
    finally:
        pooling._forward_pre_hooks.update(hooks)
    assert (padded - right).abs().max() > 1e-3


@torch.inference_mode()
def test_hunyuan_reads_exact_times_in_half_precision(folders: Folders) -> None:
    folder = str(folders("hunyuan_dit"))
    model: Any = loading.load(folder, img_size=32, dtype=torch.bfloat16)
    seen: list[Tensor] = []
    embedding = model.network.time_extra_emb
    handle = embedding.time_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    index = torch.tensor([257, 999])  # bfloat16 has 256 and 1000
    x_t = torch.ones(2, *model.sample_shape, dtype=torch.bfloat16)
    model.predict(x_t, index, model.encode_prompts(TEXTS[:2]))
    handle.remove()
    assert seen[0].tolist() == [257.0, 999.0]


def test_size_of_kandinsky_is_the_default_of_its_pipeline(folders: Folders) -> None:
    assert loading.load(str(folders("kandinsky_3"))).image_size == 1024
    with pytest.raises(UsageError, match=r"image size does not fit.*multiple of 16"):
        loading.load(str(folders("kandinsky_3")), img_size=40)


@pytest.mark.parametrize("libraries", [True, False])
def test_cleaning_of_captions_is_recorded_as_it_is_done(
    libraries: bool, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("is_bs4_available", "is_ftfy_available"):
        monkeypatch.setattr(f"diffusers.utils.{name}", lambda: libraries)
    assert text_defaults.text_defaults("IFPipeline") == {"clean_caption": libraries}
    model = loaded(folders("deepfloyd_if"))
    asked = []

    def preprocessing(texts: list[str], clean_caption: bool) -> list[str]:
        asked.append(clean_caption)
        return [text.lower() for text in texts]

    monkeypatch.setattr(model.pipeline, "_text_preprocessing", preprocessing)
    one, other = model.prompt_keys(["a Photo", "a photo"])
    model.encode_prompts(["a photo"])
    assert one == other
    assert set(asked) == {libraries} and len(asked) == 3


def test_missing_libraries_of_cleaning_are_reported(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cleaned_captions, "cleans_captions", lambda: False)
    loading.load(str(folders("deepfloyd_if")))
    assert 'pip install "diffcls[captions]"' in caplog.text
    caplog.clear()
    monkeypatch.setattr(cleaned_captions, "cleans_captions", lambda: True)
    loading.load(str(folders("deepfloyd_if")))
    assert "captions]" not in caplog.text
