"""Z-Image: a single-stream rectified-flow transformer that reads captions of their own lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.families.padding import extended, longest
from diffcls.models.prompt_truncation import in_chat_template, report_truncation

QWEN_TOKENS = 512
IMAGE_SIDE = 1024
"""Default of the pipeline's call, in pixels; no config of a part has a size."""
BUCKET = 32
"""The network pads each caption to a multiple of this (``SEQ_MULTI_OF``)."""


class ZImageDenoiser(PipelineDenoiser):
    """Z-Image (Alibaba 2025): time runs from noise at 0 to the image at 1.

    The network pads the rows of a batch to the longest. One more row, longer than all captions of
    the run, makes that length the same in every batch, so that no row depends on its neighbours.
    """

    time_scale = 1.0

    def _channels(self) -> tuple[int, int]:
        channels = int(self.network.config.in_channels)
        return channels, channels

    def _patch(self) -> int:
        return 2

    def _native_size(self) -> object:
        return IMAGE_SIDE // (self.autoencoder.factor if self.autoencoder else 1)

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.cap_feat_dim, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, padded to the longest; warns about prompts that will be truncated."""
        tokenizer = self.pipeline.tokenizer
        texts = in_chat_template(tokenizer, prompts, thinking=True)
        report_truncation(tokenizer, prompts, QWEN_TOKENS, texts)
        self._length = longest(tokenizer, texts, QWEN_TOKENS)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, L, D) and ``mask`` (P, L), 1 where there is a token."""
        captions, _ = self.pipeline.encode_prompt(
            list(prompts),
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=QWEN_TOKENS,
        )
        text = torch.cat([extended(caption[None], self._length) for caption in captions])
        ones = [torch.ones(1, len(c), dtype=torch.long, device=text.device) for c in captions]
        return {"text": text, "mask": torch.cat([extended(one, self._length) for one in ones])}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        text = cond["text"].to(self.dtype)
        lengths = cond["mask"].sum(dim=1).tolist()
        captions = [row[:length] for row, length in zip(text, lengths, strict=True)]
        buckets = -(-text.shape[1] // BUCKET)
        captions.append(text.new_zeros((buckets + 1) * BUCKET, text.shape[2]))
        # (B, C, h, w) -> B + 1 of (C, 1, h, w)
        latents = list(torch.cat([x_t, x_t[:1]]).unsqueeze(2))
        out: list[Tensor] = self.network(
            latents, 1 - torch.cat([timestep, timestep[:1]]), captions, return_dict=False
        )[0]
        return -torch.stack(out[:-1])[:, :, 0]
