"""A model as people give it: a name, path or Hub id, or a diffusers pipeline in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diffcls.models import devices, loading
from diffcls.models.denoiser import Denoiser, ModelCard
from diffcls.models.memory_options import WHOLE_ON_DEVICE, MemoryOptions, check_devices, given_flags
from diffcls.models.model_argument import Model, is_name
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    import torch


def check(model: Model) -> None:
    """Check a model without opening it, see `diffcls.models.loading.check_name`.

    Raises:
        UsageError, ModelError: see there and `diffcls.models.pipeline_view.family_of`.
    """
    if is_name(model):
        loading.check_name(os.fspath(model))
        return
    from diffcls.models.pipeline_view import family_of

    family_of(model)


def trained_on(model: Model) -> tuple[str, ...]:
    """Data sets of a local model's card, or of the card of the weights in memory."""
    if is_name(model):
        return loading.trained_on(os.fspath(model))
    from diffcls.models.in_memory import known_card

    return known_card(model).trained_on


def images_seen(model: Model) -> int | None:
    """Training images of a model trained with this package; None for others."""
    if is_name(model):
        return loading.images_seen(os.fspath(model))
    from diffcls.models import in_memory

    return in_memory.images_seen(model)


def card_of_text_model(
    model: Model,
    lora: str | None = None,
    variant: str | None = None,
    concepts: tuple[str, ...] = (),
) -> ModelCard | None:
    """See `diffcls.models.loading.card_of_text_model`; None for a model in memory."""
    if not is_name(model):
        return None
    return loading.card_of_text_model(os.fspath(model), lora, variant, concepts)


def network_of(model: Model) -> str | None:
    """See `diffcls.models.loading.network_of`; None for a model in memory."""
    return loading.network_of(os.fspath(model)) if is_name(model) else None


def text_defaults_of(model: Model) -> str:
    """What the pipeline of a text model adds to every prompt, as JSON; empty if nothing."""
    from diffcls.models.text_defaults import recorded

    if is_name(model):
        return recorded(loading.family_of(os.fspath(model)))
    return recorded(type(model).__name__, model)


def load(
    model: Model,
    device: str | None = "auto",
    dtype: str | torch.dtype | None = "auto",
    img_size: int | None = None,
    lora: str | None = None,
    model_config: str | None = None,
    variant: str | None = None,
    memory: MemoryOptions = WHOLE_ON_DEVICE,
    concepts: tuple[str, ...] = (),
    editor: bool = False,
) -> Denoiser:
    """The denoiser of a model.

    Args:
        model: a name, or a pipeline, which stays as it is: see
            `diffcls.models.in_memory.denoiser_of`.
        device: see `diffcls.models.devices.resolve_device`; ``auto`` of a pipeline: where it is.
        dtype: precision; ``auto`` of a pipeline: its own.
        img_size, lora, model_config, variant, memory, concepts, editor: see
            `diffcls.models.loading.load`.

    Raises:
        UsageError, ModelError: see these functions; and for a LoRA file or a completing model with
            a pipeline in memory.
    """
    if dtype is None or isinstance(dtype, str):
        dtype = devices.resolve_dtype(dtype)
    if is_name(model):
        place = devices.resolve_device(device)
        check_devices(memory, place, _gpus())
        files = (lora, model_config, variant, memory, concepts, editor)
        return loading.load(os.fspath(model), place, dtype, img_size, *files)
    for flag, value, todo in (
        ("--lora", lora, "load it into the pipeline: pipe.load_lora_weights(FILE)"),
        ("--concept", concepts or None, "load it into it: pipe.load_textual_inversion(FILE)"),
        ("--model-config", model_config, "remove it"),
        ("--variant", variant, "choose it when loading: from_pretrained(…, variant=NAME)"),
        *((flag, value, "set it on the pipeline") for flag, value in given_flags(memory).items()),
    ):
        if value is not None:
            raise UsageError(f"{flag} is for models in files, not in memory", value, todo=todo)
    from diffcls.models.in_memory import denoiser_of

    own = device in (None, "auto")
    return denoiser_of(model, None if own else devices.resolve_device(device), dtype, img_size)


def _gpus() -> int:
    import torch

    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
