"""Lumina-Image 2: a flow transformer of text and image in one sequence, conditioned on Gemma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.families.padding import extended
from diffcls.models.prompt_truncation import report_truncation

GEMMA_TOKENS = 256


class Lumina2Denoiser(PipelineDenoiser):
    """Lumina-Image 2.0 (Qin et al. 2025): time runs from noise at 0 to the image at 1.

    The prompt follows the pipeline's system prompt. The network cuts the padding of a batch behind
    its longest prompt, and uses no mask if all are equally long. Here every batch is as long as the
    text with its padding, and masked, so that no row depends on its neighbours.
    """

    time_scale = 1.0

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.cap_feat_dim, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        texts = [f"{self.pipeline.system_prompt} <Prompt Start> {prompt}" for prompt in prompts]
        report_truncation(self.pipeline.tokenizer, prompts, GEMMA_TOKENS, texts)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 256, D) and ``mask`` (P, 256), 1 where there is a token."""
        text, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=GEMMA_TOKENS,
        )
        return {"text": text, "mask": mask}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        hook = self.network.rope_embedder.register_forward_hook(_at_full_length)
        try:
            out: Tensor = self.network(
                hidden_states=x_t,
                timestep=1 - timestep,
                encoder_hidden_states=cond["text"].to(self.dtype),
                encoder_attention_mask=cond["mask"],
            ).sample
        finally:
            hook.remove()
        return -out


def _at_full_length(_: Any, inputs: tuple[Tensor, ...], output: tuple[Any, ...]) -> tuple[Any, ...]:
    """Output of the rotary embedding for a batch with the padding of its text.

    Args:
        inputs: latents, and mask (B, L) of the text.
        output: patches (B, N, C), rotations of the text, of the image, and of both one after the
            other (B, at most L + N, D), then the lengths of each text, and of each text and image.
    """
    tokens, text, image, both, text_lengths, lengths = output
    full = inputs[1].shape[1] + tokens.shape[1]
    # the network pairs the lengths with those of the texts and ignores the two that are added: by
    # their greatest it chooses the length of the sequence, and masks it unless all are equal
    return tokens, text, image, extended(both, full), text_lengths, [*lengths, full, 0]
