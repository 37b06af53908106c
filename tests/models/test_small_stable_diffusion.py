"""Small Stable Diffusion: options of its architecture survive saving."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcls.models.small_stable_diffusion import TinyConfig, build_pipeline, save_half


@pytest.mark.parametrize("causal", [True, False])
def test_a_saved_text_encoder_masks_as_it_was_trained(tmp_path: Path, causal: bool) -> None:
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    config = TinyConfig(text_width=24, text_causal=causal, max_tokens=8)
    pipeline = build_pipeline(config, ["a cup above a box"])
    save_half(pipeline, tmp_path)
    loaded = CLIPTextModel.from_pretrained(tmp_path / "text_encoder")
    ids = torch.full((2, 8), 5)
    ids[1, -1] = 6  # only the last token differs
    for encoder in (pipeline.text_encoder, loaded):
        first, second = encoder.eval()(ids).last_hidden_state
        assert torch.equal(first[0], second[0]) == causal
    trained, saved = (
        e(ids).last_hidden_state for e in (pipeline.text_encoder.half().float(), loaded)
    )
    torch.testing.assert_close(trained, saved)


def test_all_resolutions_but_the_first_have_cross_attention() -> None:
    unet = build_pipeline(TinyConfig(unet_channels=(8, 16, 24)), ["a cup"]).unet
    attended = [hasattr(block, "attentions") for block in unet.down_blocks]
    assert attended == [False, True, True]
    assert [hasattr(block, "attentions") for block in unet.up_blocks] == attended[::-1]
