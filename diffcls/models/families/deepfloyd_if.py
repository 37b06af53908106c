"""DeepFloyd IF: the first stage, a U-Net of pixels conditioned on T5."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.cleaned_captions import CleanedCaptions
from diffcls.models.prompt_truncation import report_truncation
from diffcls.models.text_defaults import cleans_captions

T5_TOKENS = 77


class DeepFloydIFDenoiser(CleanedCaptions):
    """DeepFloyd IF (2023), after Imagen (Saharia et al. 2022), with a learned variance."""

    part = "unet"
    may_learn_variance = True

    def _check_parts(self) -> None:
        super()._check_parts()
        config = self.network.config
        self._check_text(
            config.encoder_hid_dim or config.cross_attention_dim, text_encoder="d_model"
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, T5_TOKENS, self._cleaned(prompts))
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 77, D); the network reads the padding, too."""
        text, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            clean_caption=cleans_captions(),
        )
        return {"text": text}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        text = cond["text"].to(self.dtype)
        out: Tensor = self.network(x_t, timestep, encoder_hidden_states=text).sample
        return out
