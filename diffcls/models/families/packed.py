"""Packed latents: families whose tokens hold 2×2 pixels of the latents, as Flux's do."""

from __future__ import annotations

from diffcls.models.families.base import PipelineDenoiser


class PackedDenoiser(PipelineDenoiser):
    """A rectified flow with time in [0, 1], over latents packed by `diffcls.models.packing`."""

    time_scale = 1.0

    def _channels(self) -> tuple[int, int]:
        config = self.network.config
        return int(config.in_channels) // 4, int(config.out_channels or config.in_channels) // 4

    def _patch(self) -> int:
        return 2

    def _native_size(self) -> object:
        return self.pipeline.default_sample_size  # the network's config has none
