"""PRX: a flow transformer of latents or of pixels, conditioned on masked states of T5Gemma."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation
from diffcls.support.errors import ModelError, UsageError

RGB = 3


class PRXDenoiser(PipelineDenoiser):
    """PRX (Photoroom 2025): prompts are cleaned; without an autoencoder it is of pixels."""

    time_scale = 1.0

    def _channels(self) -> tuple[int, int]:
        channels = int(self.network.config.in_channels)
        return channels, channels

    def _native_size(self) -> object:
        # in pixels; the network's config has none
        size, factor = self.pipeline.default_sample_size, 1
        if self.autoencoder is not None:
            factor = self.autoencoder.factor
        return None if size is None else size // factor

    def _check_parts(self) -> None:
        super()._check_parts()
        if self.autoencoder is None and self._channels()[0] != RGB:
            raise ModelError(
                "the autoencoder of the model is missing",
                given=f"a transformer of {self._channels()[0]} channels",
                allowed=f"{RGB} channels without an autoencoder",
            )
        self._check_text(self.network.config.context_in_dim, text_encoder="hidden_size")

    def _prepare_text(self) -> None:
        super()._prepare_text()
        from diffusers.utils import is_ftfy_available

        if not is_ftfy_available():
            raise UsageError(
                "a model of this family cleans prompts with ftfy, which is not installed",
                given=type(self.pipeline).__name__,
                todo='pip install "diffcls[captions]"',
            )

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, texts=self._cleaned(prompts))
        return super().encode_prompts(prompts)

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """The token ids of the cleaned prompts."""
        return super().prompt_keys(self._cleaned(prompts))

    def _cleaned(self, prompts: Sequence[str]) -> list[str]:
        return [self.pipeline.text_preprocessor.clean_text(prompt) for prompt in prompts]

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, L, D) and ``mask`` (P, L), true where there is a token."""
        text, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts), self.device, do_classifier_free_guidance=False
        )
        return {"text": text, "mask": mask}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            hidden_states=x_t,
            timestep=timestep,
            encoder_hidden_states=cond["text"].to(self.dtype),
            attention_mask=cond["mask"],
        ).sample
        return out
