"""DeepFloyd IF: the first stage, a U-Net of pixels conditioned on T5."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation
from diffcls.models.text_defaults import cleans_captions

T5_TOKENS = 77
logger = logging.getLogger(__name__)


class DeepFloydIFDenoiser(PipelineDenoiser):
    """DeepFloyd IF (2023), after Imagen (Saharia et al. 2022), with a learned variance.

    The pipeline cleans captions if beautifulsoup4 and ftfy are installed, and else writes them in
    lower case only.
    """

    part = "unet"
    may_learn_variance = True

    def _check_parts(self) -> None:
        super()._check_parts()
        config = self.network.config
        self._check_text(
            config.encoder_hid_dim or config.cross_attention_dim, text_encoder="d_model"
        )

    def _prepare_text(self) -> None:
        super()._prepare_text()
        if not cleans_captions():
            logger.warning(
                "prompts are not cleaned as in the training of %s: pip install beautifulsoup4 ftfy",
                type(self.pipeline).__name__,
            )

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, self._cleaned(prompts), T5_TOKENS)
        return super().encode_prompts(prompts)

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """The token ids of the cleaned prompts."""
        return super().prompt_keys(self._cleaned(prompts))

    def _cleaned(self, prompts: Sequence[str]) -> list[str]:
        texts: list[str] = self.pipeline._text_preprocessing(
            list(prompts), clean_caption=cleans_captions()
        )
        return texts

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
