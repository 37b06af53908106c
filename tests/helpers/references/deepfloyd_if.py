"""Reference of DeepFloyd IF: ``diffusers.IFPipeline.__call__``, without guidance."""

from __future__ import annotations

from typing import Any

from helpers.references.base import Reference
from torch import Tensor


def build() -> Any:
    from diffusers import DDPMScheduler, IFPipeline
    from helpers.tiny_families import WIDTH, t5_encoder, t5_tokenizer, unet

    return IFPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        unet=unet(
            in_channels=3,
            out_channels=6,
            encoder_hid_dim=WIDTH,
            cross_attention_dim=24,
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            resnet_time_scale_shift="scale_shift",
            act_fn="gelu",
        ),
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            variance_type="learned_range",
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            sample_max_value=1.5,
        ),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, _ = pipe.encode_prompt(
        prompts, do_classifier_free_guidance=False, device="cpu", clean_caption=True
    )
    return {"text": text}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    out = pipe.unet(x_t, t, encoder_hidden_states=cond["text"], return_dict=False)[0]
    return out.split(x_t.shape[1], dim=1)[0]


REFERENCES = {
    "deepfloyd_if": Reference(
        "IFPipeline",
        build,
        tokens=77,
        encoded=encoded,
        output=output,
        predicts="epsilon",
        latents=lambda pipe, x: x,
        images=lambda pipe, x0: x0,
        size=None,
    )
}
