"""Quantised loading: the arguments of ``from_pretrained`` for 8- and 4-bit weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffcls.models.memory_options import Quantisation
from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    import torch


def loading_arguments(
    quantise: Quantisation, library: str, dtype: torch.dtype, device: str
) -> dict[str, Any]:
    """Keyword arguments that have a part's linear layers quantised while it is loaded.

    Args:
        quantise: bits and library.
        library: ``diffusers`` or ``transformers``, whose class is loaded.
        dtype: precision of the layers that stay as they are, and of the products.
        device: where the part computes.
    """
    import importlib

    loader = importlib.import_module(library)
    if quantise.library == "torchao":
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

        kind = Int8WeightOnlyConfig if quantise.bits == 8 else Int4WeightOnlyConfig
        # it quantises nothing that a device map places on a CPU, and its weights can be moved
        return {"quantization_config": loader.TorchAoConfig(kind())}
    if quantise.bits == 8:
        config = loader.BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = loader.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    return {"quantization_config": config, "device_map": {"": device}}


def is_packed(tensor: torch.Tensor) -> bool:
    """Whether a library stores a tensor in a class of its own."""
    import torch

    return type(tensor) not in (torch.Tensor, torch.nn.Parameter)


def check_quantised(part: str, module: Any) -> None:
    """Refuse a part of which a library has quantised nothing, which it does not report.

    Raises:
        ModelError: for a part whose weights are all stored as before.
    """
    weights = list(module.parameters())
    if not any(is_packed(weight) or not weight.is_floating_point() for weight in weights):
        raise ModelError(
            f"--quantize: no layer of part {part!r} could be quantised",
            given=type(module).__name__,
            todo="choose another library or 8bit; 4bit needs layers whose width 128 divides",
        )
