"""Lumina-Next: a flow transformer conditioned on masked states of Gemma."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.cleaned_captions import CleanedCaptions
from diffcls.models.families.padding import padded_to
from diffcls.models.prompt_truncation import report_truncation
from diffcls.models.text_defaults import cleans_captions


class LuminaDenoiser(CleanedCaptions):
    """Lumina-Next (Zhuo et al. 2024): time runs from noise at 0 to the image at 1.

    The pipeline pads a batch to its longest prompt, on the left as the tokenizer is saved. Here all
    are padded to its limit, so that neither values nor places depend on the neighbours.
    """

    time_scale = 1.0

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.cross_attention_dim, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        limit = self.pipeline.max_sequence_length
        report_truncation(self.pipeline.tokenizer, prompts, limit, self._cleaned(prompts))
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 256, D) and ``mask`` (P, 256), 1 where there is a token."""
        with padded_to(self.pipeline, self.pipeline.max_sequence_length):
            text, mask, _, _ = self.pipeline.encode_prompt(
                list(prompts),
                do_classifier_free_guidance=False,
                device=self.device,
                clean_caption=cleans_captions(),
            )
        return {"text": text, "mask": mask}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

        patch, native = self._patch(), self.pipeline.default_image_size
        rows, columns = (side // patch for side in x_t.shape[2:])
        pixels = math.prod(side * self.pipeline.vae_scale_factor for side in x_t.shape[2:])
        rotary = get_2d_rotary_pos_embed_lumina(
            self.network.head_dim, rows, columns, linear_factor=math.sqrt(pixels) / native
        )
        out: Tensor = self.network(
            hidden_states=x_t,
            timestep=1 - timestep,
            encoder_hidden_states=cond["text"].to(self.dtype),
            encoder_mask=cond["mask"],
            image_rotary_emb=rotary,
            # attention is sharper for more tokens than those of the training
            cross_attention_kwargs={"base_sequence_length": (native // 16) ** 2},
        ).sample
        return -out[:, : x_t.shape[1]]  # the other half is not used
