"""Sizes of a model's parts, from their configs: the networks are built on torch's meta device."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.components import NOT_EXPORTED, class_of_part, first_line
from diffcls.models.family_table import AUTOENCODERS, DIFFUSERS
from diffcls.models.json_files import read_json
from diffcls.models.memory_options import Quantisation
from diffcls.models.model_index import ModelIndex
from diffcls.models.quiet import loading
from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    import torch

CONTROL = "controlnet"
"""Name of a ControlNet among the parts, as in diffusers' pipelines."""
SCALE_BITS = {8: 0.1, 4: 0.5}
"""Bits a weight of the scales that belong to quantised weights: one a row, one in 64 weights."""
MAX_TOKENS = 512
"""Longest prompt in tokens that a pipeline pads to, where its files name none."""


@dataclass(frozen=True)
class PartSize:
    """Size of one network of a model.

    Args:
        name: name of the part.
        class_name: its class.
        role: ``text``, ``network`` or ``autoencoder``.
        parameters: number of parameters.
        dtype: precision of its weights; a quantised part's: ``8bit`` or ``4bit``.
        size: bytes of its weights and buffers in memory.
        largest_layer: bytes of its largest layer, a module without parts that have weights.
        config: content of ``config.json``.
        convolutions: bytes of the weights of its convolutions.
        tokens: of a text encoder: tokens that a prompt is padded to; else 0.
    """

    name: str
    class_name: str
    role: str
    parameters: int
    dtype: str
    size: int
    largest_layer: int
    config: Mapping[str, Any]
    convolutions: int = 0
    tokens: int = 0


def part_sizes(
    index: ModelIndex, dtype: torch.dtype, quantise: Quantisation | None = None
) -> tuple[PartSize, ...]:
    """Sizes of all networks of a pipeline; no weights are read.

    Args:
        index: index of the pipeline's folder, of which the configs suffice.
        dtype: precision of all parts but the autoencoder, which is in float32.
        quantise: quantisation of the weights; None: none.

    Raises:
        ModelError: for a part whose network cannot be built from its config.
    """
    import torch

    sizes = []
    with loading():
        for name, place in index.parts.items():
            folder = index.path.parent / name
            if place is None or not (folder / "config.json").is_file():
                continue
            kind = class_of_part(*place, name)
            if issubclass(kind, torch.nn.Module):
                role = role_of(name)
                own = torch.float32 if role == "autoencoder" else dtype
                chosen = quantise if quantise is not None and quantise.includes(role) else None
                limit = _longest_prompt(index.family) if role == "text" else 0
                sizes.append(_size_of(kind, folder, role, own, chosen, limit))
    return tuple(sizes)


def control_size(folder: Path, dtype: torch.dtype) -> PartSize:
    """Size of a ControlNet, which is a part of its own beside the pipeline; no weights are read.

    Args:
        folder: folder of its ``config.json``.
        dtype: precision of its weights.

    Raises:
        ModelError: see `part_sizes`.
    """
    with loading():
        class_name = read_json(folder / "config.json").get("_class_name")
        kind = class_of_part(DIFFUSERS, str(class_name), CONTROL)
        return replace(_size_of(kind, folder, "network", dtype, None, 0), name=CONTROL)


def role_of(part: str) -> str:
    """``text``, ``network`` or ``autoencoder``, by the name of a part."""
    if part in AUTOENCODERS:
        return "autoencoder"
    return "text" if part.startswith("text_encoder") else "network"


def _size_of(
    kind: Any,
    folder: Path,
    role: str,
    dtype: torch.dtype,
    quantise: Quantisation | None,
    longest_prompt: int,
) -> PartSize:
    config = read_json(folder / "config.json")
    module = _on_meta(kind, folder, config)
    of_module = [
        sum(_bytes_of(layer, name, tensor, kind, dtype, quantise) for name, tensor in own)
        for layer, own in _layers(module)
    ]
    weights = list(module.parameters())
    return PartSize(
        name=folder.name,
        class_name=kind.__name__,
        role=role,
        parameters=sum(weight.numel() for weight in weights),
        dtype=str(dtype).removeprefix("torch.") if quantise is None else f"{quantise.bits}bit",
        size=int(sum(of_module)),
        largest_layer=int(max(of_module, default=0)),
        convolutions=sum(w.numel() for w in weights if w.ndim == 4) * dtype.itemsize,
        config=config,
        tokens=_tokens(folder, config, longest_prompt) if role == "text" else 0,
    )


def _on_meta(kind: Any, folder: Path, config: Mapping[str, Any]) -> Any:
    """The network of a config, its tensors without values."""
    import torch

    try:
        with torch.device("meta"):
            if hasattr(kind, "config_class") and kind.config_class is not None:
                whole = kind.config_class.from_dict(dict(config))
                # their config is that of an encoder and a decoder
                return kind(whole.encoder if kind.__name__ in NOT_EXPORTED else whole)
            return kind.from_config(dict(config))
    except Exception as error:  # each class has its own exceptions
        raise ModelError(
            f"cannot build part {folder.name!r} of the model ({first_line(error)})",
            given=str(folder / "config.json"),
            todo="check that config.json is complete",
        ) from error


def _layers(module: Any) -> list[tuple[Any, list[tuple[str, Any]]]]:
    """Each module with its own parameters and buffers; a shared tensor counts once."""
    seen: set[int] = set()
    layers = []
    for path, layer in module.named_modules():
        own = []
        tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        for name, tensor in tensors:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                own.append((f"{path}.{name}", tensor))
        layers.append((layer, own))
    return layers


def _bytes_of(
    layer: Any, name: str, tensor: Any, kind: Any, dtype: torch.dtype, quantise: Quantisation | None
) -> float:
    import torch

    count = float(tensor.numel())
    if not tensor.is_floating_point():
        return count * float(tensor.element_size())
    if quantise is not None and isinstance(layer, torch.nn.Linear) and name.endswith(".weight"):
        return count * (quantise.bits + SCALE_BITS[quantise.bits]) / 8
    if name.rpartition(".")[2] in layer._non_persistent_buffers_set:  # computed, not loaded
        return count * float(tensor.element_size())
    # T5, for one, keeps layers in single precision whose values overflow in float16
    kept = [*(getattr(kind, "_keep_in_fp32_modules_strict", None) or ())]
    if dtype == torch.float16 or not hasattr(kind, "config_class"):
        kept += getattr(kind, "_keep_in_fp32_modules", None) or ()
    whole = set(kept) & set(name.split("."))
    return count * (4 if whole else dtype.itemsize)


def _longest_prompt(family: str) -> int:
    """Tokens of the longest prompt that a pipeline pads to, by the default of its method."""
    import diffusers

    encode = getattr(getattr(diffusers, family), "encode_prompt", None)
    names = inspect.signature(encode).parameters if encode is not None else {}
    default = getattr(names.get("max_sequence_length"), "default", None)
    return default if isinstance(default, int) else MAX_TOKENS


def _tokens(folder: Path, config: Mapping[str, Any], longest_prompt: int) -> int:
    """Tokens that a prompt is padded to at most, by pipeline, encoder and tokenizer."""
    tokenizer = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    path = tokenizer / "tokenizer_config.json"
    stored = read_json(path).get("model_max_length") if path.is_file() else None
    limits = [longest_prompt, stored, config.get("max_position_embeddings")]
    return int(min(n for n in limits if isinstance(n, int | float) and n > 0))
