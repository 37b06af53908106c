"""Reference of Kandinsky 3: ``diffusers.Kandinsky3Pipeline.__call__``, for one prompt alone."""

from __future__ import annotations

from typing import Any

from helpers.references.base import Reference
from torch import Tensor


def build() -> Any:
    from diffusers import Kandinsky3Pipeline, Kandinsky3UNet, VQModel
    from helpers.tiny_families import WIDTH, ddpm, t5_encoder, t5_tokenizer

    return Kandinsky3Pipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        unet=Kandinsky3UNet(
            time_embedding_dim=16,
            groups=2,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(8, 16),
            cross_attention_dim=16,
            encoder_hid_dim=WIDTH,
        ),
        scheduler=ddpm(),
        movq=VQModel(
            block_out_channels=(32,) * 4,  # the spatial norm has 32 groups
            down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
            up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            vq_embed_dim=4,
            num_vq_embeddings=16,
            norm_num_groups=8,
            norm_type="spatial",
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, _, mask, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device="cpu")
    return {"text": text, "mask": mask}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    # the pipeline cuts the padding but one position of it
    length = int(cond["mask"].sum()) + 1
    return pipe.unet(
        x_t,
        t,
        encoder_hidden_states=cond["text"][:, :length],
        encoder_attention_mask=cond["mask"][:, :length],
        return_dict=False,
    )[0]


def latents(pipe: Any, x: Tensor) -> Tensor:
    # unscaled, as in Kandinsky3Img2ImgPipeline.__call__
    return pipe.movq.encode(x)["latents"]


def images(pipe: Any, x0: Tensor) -> Tensor:
    return pipe.movq.decode(x0, force_not_quantize=True)["sample"]


REFERENCES = {
    "kandinsky_3": Reference(
        "Kandinsky3Pipeline",
        build,
        tokens=128,
        encoded=encoded,
        output=output,
        predicts="epsilon",
        latents=latents,
        images=images,
        scales_latents=False,
    )
}
