"""Single-file checkpoints: the format of original code and fine-tunes, and GGUF."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.components import check_finite, check_parts, first_line, open_pipeline
from diffcls.models.family_table import AUTOENCODERS, network_part
from diffcls.models.model_index import ModelIndex
from diffcls.support.errors import ModelError, UsageError

if TYPE_CHECKING:
    import torch

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
    "auraflow": "auraflow",
    "chroma": "chroma",
    "lumina2": "lumina-2",
    "sana": "sana",
    "z-image-turbo": "z-image-turbo",
}


SUFFIXES = (".safetensors", ".gguf")
"""Formats that hold tensors and nothing that runs."""
OTHER_PARTS = re.compile(r"(first_stage_model|cond_stage_model|conditioner|text_encoders|vae)\.")
"""Beginnings of the tensors' names of all parts but the network."""


def check(path: Path) -> None:
    """Raise UsageError unless the file is of a format that cannot run code."""
    if path.suffix not in SUFFIXES:
        raise UsageError(
            "model file is neither a safetensors nor a GGUF file",
            given=str(path),
            allowed="a .safetensors or .gguf file, or a folder with model_index.json",
            todo="convert it to safetensors: pickles (.ckpt, .pt, .bin) may run code",
        )


def completed_by(path: Path) -> str:
    """The short name of the model whose configs and tokenizers a checkpoint needs.

    Raises:
        ModelError: for a file that is incomplete, or of an unsupported architecture.
    """
    from diffusers.loaders.single_file_utils import (
        CHECKPOINT_KEY_NAMES,
        infer_diffusers_model_type,
    )

    _check_gguf_library(path)
    try:
        shapes = _shapes(path)
        kind = str(infer_diffusers_model_type(shapes))
        if kind == "v1" and CHECKPOINT_KEY_NAMES[kind] not in shapes:
            kind = "none of those that diffusers knows"  # its answer to whatever it does not know
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


def _shapes(path: Path) -> dict[str, _Shape]:
    """Name of each tensor -> its shape, from the header of the file alone."""
    if path.suffix == ".gguf":
        from gguf import GGUFReader

        # GGUF counts axes from the last one
        return {t.name: _Shape([int(n) for n in t.shape][::-1]) for t in GGUFReader(path).tensors}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: _Shape(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def holds_network_alone(path: Path) -> bool:
    """Whether no tensor of the file belongs to an autoencoder or a text encoder.

    Raises:
        ModelError: for a file that cannot be read.
    """
    _check_gguf_library(path)
    with _telling(path, None):
        return not any(OTHER_PARTS.match(name) for name in _shapes(path))


def _check_gguf_library(path: Path) -> None:
    if path.suffix == ".gguf" and importlib.util.find_spec("gguf") is None:
        raise ModelError(
            "a GGUF file needs gguf", given=str(path), todo='pip install "diffcls[gguf]"'
        )


class _Shape:
    """Stand-in for a tensor of which only the shape is known."""

    def __init__(self, shape: list[int]) -> None:
        self.shape = tuple(shape)
        self.ndim = len(shape)


def open_file(path: Path, index: ModelIndex, dtype: torch.dtype) -> Any:
    """Open the pipeline of a checkpoint.

    Args:
        path: a file in the layout of the original code or of diffusers: safetensors of a whole
            pipeline or of its network alone, or GGUF of a network.
        index: index of the pipeline that completes it; of its weights only those are read that
            the file lacks.
        dtype: data type of all parts but the autoencoder, which is in float32. Quantised weights
            stay as they are, and are computed with in this type.

    Raises:
        ModelError: if file and folder do not fit each other, and for a family whose files diffusers
            does not read.
    """
    import diffusers
    import torch

    check_parts(index)
    if holds_network_alone(path):
        part = network_part(index.family)
        return open_pipeline(index, dtype, {part: _open_network(path, index, part, dtype)})
    kind, folder = getattr(diffusers, index.family), index.path.parent
    if not hasattr(kind, "from_single_file"):
        raise _not_read(path, index)
    with _telling(path, folder):
        pipeline = kind.from_single_file(
            str(path), config=str(folder), torch_dtype=dtype, local_files_only=True
        )
    for name, part in pipeline.components.items():
        if name in AUTOENCODERS and part is not None:
            torch.nn.Module.to(part, torch.float32)
        if isinstance(part, torch.nn.Module):
            check_finite(name, part)
    return pipeline


def _open_network(path: Path, index: ModelIndex, part: str, dtype: torch.dtype) -> Any:
    """The network of a file, in the shape that the config of `index` describes."""
    import diffusers

    place, folder = index.parts[part], index.path.parent
    kind: Any = getattr(diffusers, place[1] if place else "", None)
    if not hasattr(kind, "from_single_file"):
        raise _not_read(path, index)
    quantised: dict[str, Any] = {}
    if path.suffix == ".gguf":
        _check_gguf_library(path)
        quantised["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    with _telling(path, folder):
        network = kind.from_single_file(
            str(path),
            config=str(folder),
            subfolder=part,
            torch_dtype=dtype,
            local_files_only=True,
            **quantised,
        )
    check_finite(part, network)
    return network


def _not_read(path: Path, index: ModelIndex) -> ModelError:
    return ModelError(
        f"diffusers does not read single files of a {index.family}",
        given=str(path),
        todo="convert it to a folder with model_index.json",
    )


@contextmanager
def _telling(path: Path, folder: Path | None) -> Iterator[None]:
    """Context whose errors become a ModelError that names file and folder."""
    try:
        yield
    except Exception as error:  # file formats raise different exceptions
        raise ModelError(
            f"cannot load model file ({type(error).__name__}: {first_line(error)})",
            given=str(path),
            todo="check that it is complete"
            + (f", and of the same architecture as {folder}" if folder else ""),
        ) from error
