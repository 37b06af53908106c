"""Adapters of model families: a pipeline of diffusers becomes a denoiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffcls.models.components import first_line
from diffcls.models.denoiser import Denoiser, ModelCard
from diffcls.models.family_table import EDITOR_TABLE, FAMILY_TABLE
from diffcls.models.memory_options import WHOLE_ON_DEVICE, MemoryOptions
from diffcls.support.errors import DiffclsError, ModelError, UsageError
from diffcls.support.registry import Registry

if TYPE_CHECKING:
    import torch

    from diffcls.models.families.base import PipelineDenoiser

FAMILIES = Registry("model family", {name: family.adapter for name, family in FAMILY_TABLE.items()})
EDITORS = Registry(
    "family of instruction editors", {name: row.adapter for name, row in EDITOR_TABLE.items()}
)


def adapted(
    family: str,
    pipeline: Any,
    card: ModelCard,
    device: torch.device | str,
    dtype: torch.dtype,
    img_size: int | None,
    given: str,
    memory: MemoryOptions = WHOLE_ON_DEVICE,
) -> Denoiser:
    """The denoiser of a pipeline, after one small pass through all of its parts.

    Args:
        family: name of the pipeline's class.
        pipeline, card, device, dtype, img_size, memory: see `diffcls.models.families.base`.
        given: the model's place or class, for the message.

    Raises:
        UsageError: for an image size that the model does not support.
        ModelError: for parts that do not work together.
    """
    import torch

    from diffcls.models.families.checks import run_once

    adapter: type[PipelineDenoiser] = (EDITORS if family in EDITOR_TABLE else FAMILIES).load(family)
    try:
        denoiser = adapter(pipeline, card, device, dtype, img_size, memory)
        run_once(denoiser)
    except (DiffclsError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # values of configs that no class checks
        raise ModelError(
            f"the parts of the model do not work together ({first_line(error)})",
            given=given,
            todo="check the configs of the model's parts",
        ) from error
    if memory.compile:
        _compile(denoiser)
    return denoiser


def _compile(denoiser: PipelineDenoiser) -> None:
    """Compile the network for static shapes, in place, and run it once.

    Raises:
        UsageError: where torch cannot, such as without a C++ compiler.
    """
    from diffcls.models.families.checks import run_once

    denoiser.network.compile(dynamic=False)
    try:
        run_once(denoiser)
    except Exception as error:  # each backend has its own exceptions
        raise UsageError(
            f"--compile: torch cannot compile the network ({first_line(error)})",
            given=type(denoiser.network).__name__,
            todo="install a C++ compiler such as g++, or remove --compile",
        ) from error
