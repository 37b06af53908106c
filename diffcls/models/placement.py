"""Placement of a loaded model: the same model on another device or in another precision."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from diffcls.models.denoiser import Denoiser
from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    import torch


def placed(
    denoiser: Denoiser, device: torch.device | str, dtype: torch.dtype, shared: bool = False
) -> Denoiser:
    """The denoiser of the same pipeline on `device` and in `dtype`; the autoencoder stays float32.

    Args:
        denoiser: the model.
        device, dtype: device and precision of the network and the text encoders.
        shared: whether others hold the pipeline: a copy is then moved, and theirs is unchanged.

    Raises:
        ModelError: for a denoiser that is no diffusers pipeline.
    """
    from diffcls.models.families.base import PipelineDenoiser
    from diffcls.models.families.controlled import ControlledDenoiser

    if isinstance(denoiser, ControlledDenoiser) and denoiser.steered is not None:
        own: Any = placed(denoiser.steered, device, dtype, shared)
        control = copy.deepcopy(denoiser.control) if shared else denoiser.control
        if dtype != denoiser.dtype:
            _convert(control, dtype)
        moved: Denoiser = own.with_control(control, denoiser.card)
        return moved
    if not isinstance(denoiser, PipelineDenoiser):
        raise ModelError(
            "the model cannot be moved", given=type(denoiser).__name__, allowed="pipelines"
        )
    pipeline = copy.deepcopy(denoiser.pipeline) if shared else denoiser.pipeline
    if dtype != denoiser.dtype:
        for name in pipeline.components:
            if name == denoiser.part or name.startswith("text_encoder"):
                _convert(getattr(pipeline, name), dtype)
    return type(denoiser)(pipeline, denoiser.card, device, dtype, denoiser.image_size)


def _convert(part: torch.nn.Module | None, dtype: torch.dtype) -> None:
    """Convert stored tensors; what is computed when a model is built stays in its own precision."""
    for tensor in part.state_dict(keep_vars=True).values() if part is not None else ():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
