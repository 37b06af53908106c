"""Models steered by a ControlNet: the pair of both is a denoiser (Zhang et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffcls.models.components import first_line
from diffcls.models.control_files import class_for, find, open_files
from diffcls.models.denoiser import Denoiser
from diffcls.models.families.controlled import ControlledDenoiser
from diffcls.support.errors import DiffclsError, ModelError, UsageError


def steered(denoiser: Denoiser, name: str) -> Denoiser:
    """A model with a ControlNet; the model itself stays as it is, and shares its weights.

    Args:
        denoiser: the model.
        name: bundled name, folder or Hub id of the ControlNet.

    Raises:
        UsageError: for a model of a family without ControlNets, or a ControlNet of another one.
        UsageError, ModelError: see `diffcls.models.control_files.find` and `open_files`.
    """
    expected = control_class(denoiser)
    files = find(name, denoiser.dtype != torch.float32)
    if not isinstance(denoiser, ControlledDenoiser) or files.kind != expected:
        raise UsageError(
            "the ControlNet is for another family of models",
            given=f"{files.kind} for {denoiser.card.name}",
            allowed=expected,
            todo="choose one that was trained with this model: --control-model",
        )
    card = denoiser.card
    card = replace(
        card,
        revision=f"{card.revision} + {files.revision}",
        added=(*card.added, files.card),
    )
    result = denoiser.with_control(open_files(files, denoiser.dtype), card)
    try:
        _run_once(result)
    except (DiffclsError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # shapes that no config names
        raise ModelError(
            f"model and ControlNet do not work together ({first_line(error)})",
            given=f"{card.name} and {name}",
            todo="choose a ControlNet that was trained with this model: --control-model",
        ) from error
    return result


def control_class(denoiser: Denoiser) -> str:
    """Class of diffusers of a model's ControlNets.

    Raises:
        UsageError: for a model of a family without ControlNets.
    """
    return class_for(type(getattr(denoiser, "pipeline", None)).__name__, denoiser.card.name)


def plain(denoiser: Denoiser) -> Denoiser:
    """The model without its ControlNet, if it has one."""
    base: Denoiser | None = getattr(denoiser, "steered", None)
    return denoiser if base is None else base


def encoded(denoiser: Denoiser, maps: Tensor) -> Tensor:
    """Maps (B, 3, H, W) in [0, 1] as the ControlNet of a steered model reads them (B, ...)."""
    steering: Any = denoiser
    result: Tensor = steering.encode_control(maps)
    return result


def blank(denoiser: Denoiser, rows: int) -> Tensor | None:
    """(rows, ...) encoded empty maps; None for a model without a ControlNet."""
    if plain(denoiser) is denoiser:
        return None
    one = encoded(denoiser, torch.zeros(1, 3, denoiser.image_size, denoiser.image_size))
    return one.expand(rows, *one.shape[1:])


@torch.inference_mode()
def _run_once(denoiser: Denoiser) -> None:
    """One pass through both networks."""
    x_t = torch.zeros(1, *denoiser.sample_shape, device=denoiser.device, dtype=denoiser.dtype)
    index = torch.zeros(1, dtype=torch.int64, device=denoiser.device)
    cond = denoiser.encode_prompts([""])
    denoiser.predict(x_t, index, cond.with_control(blank(denoiser, 1)))
