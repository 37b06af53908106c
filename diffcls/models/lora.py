"""LoRA weights, merged into the model that they were trained for (Hu et al. 2021).

diffusers merges what fits and ignores the rest, with a line in its log. Here every module of the
file must fit, so that no number is that of half a LoRA.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffcls.models.components import check_finite, first_line
from diffcls.models.family_table import network_part
from diffcls.models.quiet import loading
from diffcls.support.errors import DiffclsError, ModelError, UsageError
from diffcls.support.hashing import hash_file

# what follows a module's name in the formats of peft, kohya and older versions of diffusers
AFTER_MODULE = re.compile(r"\.lora_|_lora\.|\.lora\.|\.alpha$|\.dora_scale$|\.diff(_b)?$")
OLD_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
"""Projections of CLIP's attention, as diffusers calls them in LoRA files."""


def parse(text: str) -> tuple[Path, float]:
    """Parse ``FILE`` or ``FILE:WEIGHT``; the default weight is 1.

    Raises:
        UsageError: for a weight that is not a finite number, or a file that is missing or of
            another type.
    """
    name, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file():
        name, weight = text, "1"
    try:
        scale = float(weight)
    except ValueError:
        raise UsageError("cannot parse --lora", given=text, allowed="FILE or FILE:WEIGHT") from None
    if not math.isfinite(scale):
        raise UsageError("--lora: the weight is not finite", given=text, allowed="FILE:NUMBER")
    path = Path(name)
    if not path.is_file() or path.suffix != ".safetensors":
        raise UsageError(
            "--lora: file not found, or not safetensors", given=name, allowed="a .safetensors file"
        )
    return path, scale


def revision_of(text: str) -> str:
    """A LoRA's part of the revision of the model that it is merged into; `text` as in `parse`."""
    path, scale = parse(text)
    short = f"{scale:g}"
    return f"lora {hash_file(path, 8)} x {short if float(short) == scale else repr(scale)}"


def merge(pipeline: Any, text: str) -> str:
    """Merge a LoRA into the pipeline's weights; returns its part of the model's revision.

    Args:
        pipeline: diffusers pipeline, changed in place: W ← W + weight · (alpha/rank) · B·A.
        text: ``FILE`` or ``FILE:WEIGHT``, see `parse`.

    Raises:
        ModelError: if peft is not installed, the family does not support LoRA, a module of the file
            does not belong to this model, or a weight is not finite, before or after merging.
    """
    path, scale = parse(text)
    if importlib.util.find_spec("peft") is None:
        raise ModelError("--lora needs peft", todo='pip install "diffcls[lora]"')
    family = type(pipeline).__name__
    # Kandinsky 3's pipeline has the method, its network does not
    network = getattr(pipeline, network_part(family))
    if not hasattr(pipeline, "load_lora_weights") or not hasattr(network, "load_lora_adapter"):
        raise ModelError("--lora is not supported by this model family", given=family)
    in_file = _modules(_check_tensors(path))
    before = _snapshot(pipeline)
    try:
        with loading():
            converted = pipeline.lora_state_dict(path.parent, weight_name=path.name)
            if isinstance(converted, tuple):  # with the scale of each module
                converted = converted[0]
            pipeline.load_lora_weights(path.parent, weight_name=path.name)
            _check_modules(path, in_file, _modules(converted), _merged_modules(pipeline))
            pipeline.fuse_lora(lora_scale=scale)
            pipeline.unload_lora_weights()
    except DiffclsError:
        raise
    except Exception as error:  # LoRA formats raise different exceptions
        raise ModelError(
            f"cannot merge the LoRA ({type(error).__name__}: {first_line(error)})",
            given=str(path),
            todo="check that it was trained for this model",
        ) from error
    for name, part in _networks(pipeline):
        check_finite(f"{name} with {path.name}", part)
    if scale and _snapshot(pipeline) == before:
        raise ModelError(
            "the LoRA changes no weight of this model",
            given=str(path),
            todo="check that it was trained for this model",
        )
    return revision_of(text)


def _check_tensors(path: Path) -> list[str]:
    """The names of the tensors of a file; raises ModelError for one that is not finite."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"cannot read the LoRA ({first_line(error)})", given=str(path)) from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.float()).all():
            raise ModelError(f"weights of the LoRA {path} are not finite", given=name)
    return list(tensors)


def _modules(names: Iterable[str]) -> dict[str, str]:
    """Module -> its name in a file; the same module has the same key, whatever the format."""
    modules: dict[str, str] = {}
    for name in names:
        module = AFTER_MODULE.split(name.replace(".processor.", "."))[0]
        modules.setdefault(_key(module), module)
    return modules


def _key(module: str) -> str:
    """A module's name without what differs between formats and versions of the libraries."""
    parts = module.replace(".text_model.", ".").split(".")
    if parts[0].startswith("text_encoder"):
        parts[-1] = OLD_NAMES.get(parts[-1], parts[-1])
    elif parts[-1] == "to_out":
        parts.append("0")
    return ".".join(parts)


def _merged_modules(pipeline: Any) -> set[str]:
    """Keys of the modules of the pipeline that a loaded LoRA changes."""
    return {
        _key(f"{part}.{name}")
        for part, network in _networks(pipeline)
        for name, module in network.named_modules()
        if len(getattr(module, "lora_A", ()) or getattr(module, "lora_embedding_A", ()))
    }


def _check_modules(
    path: Path, in_file: dict[str, str], converted: dict[str, str], merged: set[str]
) -> None:
    """Raise ModelError unless all modules of a file are merged.

    Args:
        path: the file.
        in_file: its modules.
        converted: the same in the names of diffusers, which splits some and may drop others.
        merged: those that the pipeline has.
    """
    unfit = [name for key, name in converted.items() if key not in merged]
    dropped = len(in_file) - len(converted)
    if len(merged) >= len(converted) and dropped <= 0:
        return
    count = max(len(unfit), dropped)
    some = unfit or list(in_file.values())
    raise ModelError(
        f"{count} of {len(in_file)} modules of the LoRA do not belong to this model",
        given=f"{', '.join(some[:2])} in {path}",
        todo="check that it was trained for this model, and that its names begin with a part of "
        "the pipeline, such as unet, transformer or text_encoder",
    )


def _networks(pipeline: Any) -> list[tuple[str, Any]]:
    import torch

    parts = pipeline.components.items()
    return [(name, part) for name, part in parts if isinstance(part, torch.nn.Module)]


def _snapshot(pipeline: Any) -> list[float]:
    """A checksum per tensor, which detects a change of the weights."""
    return [
        float(tensor.detach().double().abs().sum())
        for _, part in _networks(pipeline)
        for tensor in part.parameters()
    ]
