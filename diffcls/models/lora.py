"""LoRA weights, merged into the model that they were trained for (Hu et al. 2021)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from diffcls.models.quiet import quiet
from diffcls.support.errors import ModelError, UsageError
from diffcls.support.hashing import hash_file


def parse(text: str) -> tuple[Path, float]:
    """Parse ``FILE`` or ``FILE:WEIGHT``; the default weight is 1.

    Raises:
        UsageError: for a weight that is not a number, or a file that is missing or of another type.
    """
    name, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file():
        name, weight = text, "1"
    try:
        scale = float(weight)
    except ValueError:
        raise UsageError("cannot parse --lora", given=text, allowed="FILE or FILE:WEIGHT") from None
    path = Path(name)
    if not path.is_file() or path.suffix != ".safetensors":
        raise UsageError(
            "--lora: file not found, or not safetensors", given=name, allowed="a .safetensors file"
        )
    return path, scale


def revision_of(text: str) -> str:
    """A LoRA's part of the revision of the model that it is merged into; `text` as in `parse`."""
    path, scale = parse(text)
    return f"lora {hash_file(path, 8)} x {scale:g}"


def merge(pipeline: Any, text: str) -> str:
    """Merge a LoRA into the pipeline's weights; returns its part of the model's revision.

    Args:
        pipeline: diffusers pipeline, changed in place: W ← W + weight · (alpha/rank) · B·A.
        text: ``FILE`` or ``FILE:WEIGHT``, see `parse`.

    Raises:
        ModelError: if peft is not installed, the family does not support LoRA, or no weight of the
            file belongs to this model.
    """
    path, scale = parse(text)
    if importlib.util.find_spec("peft") is None:
        raise ModelError("--lora needs peft", todo='pip install "diffcls[lora]"')
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(
            "--lora is not supported by this model family", given=type(pipeline).__name__
        )
    before = _snapshot(pipeline)
    try:
        with quiet():
            pipeline.load_lora_weights(path.parent, weight_name=path.name)
            pipeline.fuse_lora(lora_scale=scale)
            pipeline.unload_lora_weights()
    except Exception as error:  # LoRA formats raise different exceptions
        raise ModelError(
            f"cannot merge the LoRA ({type(error).__name__}: {str(error).partition(chr(10))[0]})",
            given=str(path),
            todo="check that it was trained for this model",
        ) from error
    if scale and _snapshot(pipeline) == before:
        raise ModelError(
            "no weight of the LoRA belongs to this model",
            given=str(path),
            todo="check that it was trained for this model",
        )
    return revision_of(text)


def _snapshot(pipeline: Any) -> list[float]:
    """A checksum per tensor, which detects a change of the weights."""
    import torch

    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return [
        float(tensor.detach().double().abs().sum())
        for part in parts
        for tensor in part.parameters()
    ]
