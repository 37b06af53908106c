"""ControlNets of the tiny pipelines with random weights, written as diffusers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = {"sd1": "unet", "sdxl": "unet", "sd3": "transformer", "flux": "transformer"}
"""Tiny pipelines with ControlNets, and their networks."""


def control_net(name: str, pipeline: Any, is_zero: bool = False) -> Any:
    """A ControlNet of diffusers for one of the tiny pipelines.

    Args:
        name: a key of `CLASSES`.
        pipeline: the pipeline.
        is_zero: whether it is as it is initialised, with zero convolutions: it changes nothing.
    """
    from diffusers import ControlNetModel, FluxControlNetModel, SD3ControlNetModel

    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "sd3":
            # without position embeddings of its own, and with those of the pooled prompt
            network = SD3ControlNetModel.from_config(
                {
                    **pipeline.transformer.config,
                    "num_layers": 1,
                    "force_zeros_for_pooled_projection": False,
                }
            )
        elif name == "flux":
            network = FluxControlNetModel.from_config({**pipeline.transformer.config})
        else:
            # each entry after the first halves the map, down to the latents
            factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
            widths = (8, 8, 16, 16)[: factor.bit_length()]
            network = ControlNetModel.from_unet(
                pipeline.unet, conditioning_embedding_out_channels=widths
            )
        if not is_zero:
            _fill(network)
    return network.float().eval()


def save(name: str, pipeline: Any, folder: Path, is_zero: bool = False) -> Path:
    """The folder of a `control_net`, as ``save_pretrained`` writes it."""
    control_net(name, pipeline, is_zero).save_pretrained(folder, safe_serialization=True)
    return folder


def _fill(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1 and float(parameter.abs().max()) < 1e-3:
                parameter.normal_(std=0.05)


def maps(count: int, size: int) -> Tensor:
    """(count, 3, size, size) random lines in [0, 1]."""
    generator = torch.Generator().manual_seed(2)
    lines = (torch.rand(count, 1, size, size, generator=generator) > 0.7).float()
    return lines.expand(-1, 3, -1, -1)
