"""Memory of a method's diffusion model: how the options have it held, its forecast and check."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diffcls.classifiers.control_options import control_config
from diffcls.classifiers.options import ClassifierOptions
from diffcls.models.memory_options import (
    MemoryOptions,
    check_memory_options,
    parse_quantisation,
)
from diffcls.models.model_argument import Model, is_name
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.models.forecast import Forecast


def memory_options(options: ClassifierOptions) -> MemoryOptions:
    """How the options have a model held in memory.

    Raises:
        UsageError: see `diffcls.models.memory_options.check_memory_options`.
    """
    quantise = None if options.quantize is None else parse_quantisation(options.quantize)
    if quantise is not None and options.lora is not None:
        raise UsageError(
            "--quantize and --lora exclude each other", todo="merge the LoRA file, then quantise"
        )
    if quantise is not None and options.concept:
        raise UsageError("--quantize and --concept exclude each other", todo="remove one")
    memory = MemoryOptions(
        offload=options.offload,
        vae_slicing=options.vae_slicing,
        vae_tiling=options.vae_tiling,
        compile=options.compile,
        quantise=quantise,
        device_map=options.device_map,
    )
    check_memory_options(memory)
    return memory


def changes_of_numbers(options: ClassifierOptions) -> dict[str, object]:
    """The options of memory that change numbers, only where they are given, for a hash."""
    changes: dict[str, object] = {}
    if options.quantize is not None:
        changes["quantize"] = str(parse_quantisation(options.quantize))
    if options.vae_tiling:
        changes["vae_tiling"] = True
    return changes


def forecast_of(
    options: ClassifierOptions, model: Model, batch_size: int, prompts: int
) -> Forecast | None:
    """The memory that a diffusion model will need, before it is loaded.

    Args:
        options: options of the evaluation.
        model: the model.
        batch_size: rows of a forward pass.
        prompts: number of prompts that stay encoded.

    Returns:
        the forecast; None for a pipeline in memory, which is loaded already.

    Raises:
        UsageError, ModelError: see `diffcls.models.forecast.forecast`.
    """
    if not is_name(model):
        return None
    from diffcls.models import devices
    from diffcls.models.forecast import Workload, forecast
    from diffcls.models.memory_check import index_of

    device, dtype = devices.resolve_device(options.device), devices.resolve_dtype(options.dtype)
    work = Workload(
        dtype=devices.default_dtype(device) if dtype is None else dtype,
        batch_size=batch_size,
        device=device,
        prompts=prompts,
        img_size=options.img_size,
        options=memory_options(options),
        control=control_config(options, model),
    )
    return forecast(index_of(os.fspath(model), options.model_config), work)


def check_memory(options: ClassifierOptions, model: Model, batch_size: int, prompts: int) -> None:
    """Refuse a model that does not fit in memory; see `forecast_of` for the arguments.

    Raises:
        UsageError, ModelError: see `diffcls.models.memory_check.check_memory`.
    """
    needed = forecast_of(options, model, batch_size, prompts)
    if needed is not None:
        from diffcls.models import memory_check

        memory_check.check_memory(needed)
