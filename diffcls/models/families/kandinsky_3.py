"""Kandinsky 3: a U-Net conditioned on T5, of the latents of a VQ autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation

T5_TOKENS = 128


class Kandinsky3Denoiser(PipelineDenoiser):
    """Kandinsky 3 (Arkhipkin et al. 2023).

    The pipeline cuts the padding of a batch behind its longest prompt, and a mean over positions
    in the network depends on what is left. Here each prompt is conditioned on as the pipeline does
    it with this prompt alone: all are padded to one length, and the mean leaves padding out.
    """

    part = "unet"

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        pooling = self.network.add_time_condition.attention
        pooling.register_forward_pre_hook(_pool_without_padding)

    def _channels(self) -> tuple[int, int]:
        channels = int(self.network.config.in_channels)
        return channels, channels

    def _patch(self) -> int:
        # every level of the U-Net but the last halves the sides
        return int(2 ** (len(self.network.config.block_out_channels) - 1))

    def _native_size(self) -> object:
        # no config has a size: the default of the pipeline, in pixels
        return self.autoencoder and self._default("height") // self.autoencoder.factor

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.encoder_hid_dim, text_encoder="d_model")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, T5_TOKENS)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 128, D), zero in the padding, and ``mask`` (P, 128)."""
        text, _, mask, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.device
        )
        return {"text": text, "mask": mask}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            x_t,
            timestep,
            encoder_hidden_states=cond["text"].to(self.dtype),
            encoder_attention_mask=cond["mask"],
        ).sample
        return out


def _pool_without_padding(_: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Inputs of the attention pooling, with the mean over a prompt and one position of padding.

    Args:
        inputs: mean (B, 1, D) over all positions, text (B, L, D), and a bias (B, 1, L) of the
            attention, 0 where there is a token.
    """
    _, text, bias = inputs
    kept = bias[:, 0] == 0
    kept[:, 1:] |= kept[:, :-1].clone()  # the pipeline leaves one position of padding
    weights = kept.to(text.dtype)[..., None]
    mean = (weights * text).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
    return mean, text, bias
