"""Single-file checkpoints, the format of the original Stable Diffusion and most fine-tunes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcls.models.components import check_parts, first_line
from diffcls.models.family_table import AUTOENCODERS
from diffcls.models.model_index import ModelIndex
from diffcls.support.errors import ModelError, UsageError

# kind of checkpoint, as diffusers detects it -> model that supplies configs and tokenizers
COMPLETED_BY: Mapping[str, str] = {
    "v1": "sd15",
    "v2": "sd2",
    "xl_base": "sdxl",
    "sd3": "sd3-medium",
    "sd35_medium": "sd35-medium",
    "sd35_large": "sd35-large",
    "flux-dev": "flux-dev",
    "flux-schnell": "flux-schnell",
}


def check(path: Path) -> None:
    """Raise UsageError unless the file is a safetensors file, which cannot run code."""
    if path.suffix != ".safetensors":
        raise UsageError(
            "model file is not a safetensors file",
            given=str(path),
            allowed="a .safetensors file, or a folder with model_index.json",
            todo="convert it to safetensors: pickles (.ckpt, .pt, .bin) may run code",
        )


def completed_by(path: Path) -> str:
    """The short name of the model whose configs and tokenizers a checkpoint needs.

    Raises:
        ModelError: for a file that is incomplete, or of an unsupported architecture.
    """
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: _Shape(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        kind = str(infer_diffusers_model_type(shapes))
    except Exception as error:  # damaged headers raise different exceptions
        raise ModelError(f"cannot read model file ({error})", given=str(path)) from error
    if kind not in COMPLETED_BY:
        raise ModelError(
            "architecture of the model file is not recognised",
            given=f"{path}, {kind}",
            allowed=COMPLETED_BY,
            todo="choose the model that completes it with --model-config",
        )
    return COMPLETED_BY[kind]


class _Shape:
    """Stand-in for a tensor of which only the shape is known."""

    def __init__(self, shape: list[int]) -> None:
        self.shape = tuple(shape)
        self.ndim = len(shape)


def open_file(path: Path, index: ModelIndex, kind: Any, dtype: Any) -> Any:
    """Open the pipeline of a checkpoint.

    Args:
        path: ``.safetensors``, in the layout of the original code.
        index: index of the pipeline that completes it; of its weights only those are read that
            the file lacks.
        kind: class of the pipeline.
        dtype: data type of all parts but the autoencoder, which is in float32.

    Raises:
        ModelError: if file and folder do not fit each other.
    """
    import torch

    folder = index.path.parent
    check_parts(index)
    try:
        pipeline = kind.from_single_file(
            str(path), config=str(folder), torch_dtype=dtype, local_files_only=True
        )
    except Exception as error:  # file formats raise different exceptions
        raise ModelError(
            f"cannot load model file ({type(error).__name__}: {first_line(error)})",
            given=str(path),
            todo=f"check that it is complete, and of the same architecture as {folder}",
        ) from error
    for name in AUTOENCODERS:
        if getattr(pipeline, name, None) is not None:
            torch.nn.Module.to(getattr(pipeline, name), torch.float32)
    return pipeline
