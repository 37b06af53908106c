"""Pipeline components, loaded one by one so that missing tensors are detected."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.quiet import quiet
from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    import torch


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON file that contains one object.

    Raises:
        ModelError: if it is missing, or contains anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read a file of the model ({error})", given=str(path)) from error
    if not isinstance(content, dict):
        raise ModelError("a file of the model is not a JSON object", given=str(path))
    return content


def open_pipeline(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """Open a pipeline; each part is loaded on its own so that missing tensors are detected.

    Args:
        folder: as ``save_pretrained`` writes it.
        index: content of its ``model_index.json``.
        dtype: data type of all parts but the autoencoder, which stays in float32.

    Raises:
        ModelError: for a part that is missing, incomplete or not finite, for parts that require
            custom code, and for parts that do not form a pipeline.
    """
    import diffusers
    import torch
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    parts: dict[str, Any] = {}
    with quiet():
        for part, entry in index.items():
            if part.startswith("_") or not isinstance(entry, list) or len(entry) != 2:
                continue
            library, class_name = entry
            if library is None or part in ("safety_checker", "feature_extractor"):
                parts[part] = None
                continue
            kind = getattr(libraries.get(library), str(class_name), None)
            if not isinstance(kind, type):
                raise ModelError(
                    f"part {part!r} of the model requires custom code",
                    given=entry,
                    allowed=[f"classes of {name}" for name in libraries],
                )
            # an autoencoder may overflow in half precision, and is cheap beside the denoiser
            part_dtype = torch.float32 if part == "vae" else dtype
            parts[part] = _open_part(kind, folder / part, part_dtype)
        pipeline_class = getattr(diffusers, str(index["_class_name"]))
        accepted = inspect.signature(pipeline_class).parameters
        # settings beside the parts, such as DiT's class names
        extra = {k: v for k, v in index.items() if k in accepted and k not in parts}
        if "safety_checker" in parts:
            extra["requires_safety_checker"] = False
        try:
            return pipeline_class(**parts, **extra)
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"the parts do not form a {index['_class_name']} ({_first_line(error)})",
                given=str(folder / "model_index.json"),
                allowed="the parts that save_pretrained writes",
            ) from error


def _open_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    import torch

    if not folder.is_dir():
        raise ModelError("a part of the model is missing", given=str(folder))
    if "Tokenizer" in kind.__name__:
        _check_tokenizer(folder)
    weights = issubclass(kind, torch.nn.Module)
    try:
        if not weights:
            return kind.from_pretrained(folder)
        module, info = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            variant=_variant(folder, dtype),
        )
    except Exception as error:  # each library and file format has its own exceptions
        raise ModelError(
            f"cannot load part {folder.name!r} of the model ({_first_line(error)})",
            given=str(folder),
            todo="check that all files of the model are complete, and weights are safetensors",
        ) from error
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise ModelError(
            f"{len(missing)} tensors are missing in part {folder.name!r} of the model",
            given=missing[0],
            todo="download the file again",
        )
    check_finite(folder.name, module)
    return module


def _variant(folder: Path, dtype: torch.dtype) -> str | None:
    """``fp16`` if the folder has such files and they suffice or are the only ones."""
    import torch

    files = [path.name for path in folder.glob("*.safetensors")]
    halves = [name for name in files if ".fp16" in name]
    return "fp16" if halves and (dtype != torch.float32 or len(halves) == len(files)) else None


def check_finite(part: str, module: Any) -> None:
    """Raise ModelError for a weight that is not finite, or was not loaded."""
    import torch

    for name, tensor in module.state_dict().items():
        if tensor.is_meta or not torch.isfinite(tensor.float()).all():
            raise ModelError(f"weights of part {part!r} are not finite", given=name)


def _check_tokenizer(folder: Path) -> None:
    """Raise for a tokenizer without files, which transformers replaces with an empty one."""
    names = {path.name for path in folder.iterdir()}
    vocabularies = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"spiece.model"})
    if "tokenizer_config.json" not in names or not any(files <= names for files in vocabularies):
        raise ModelError(
            "a file of the tokenizer is missing",
            given=str(folder),
            allowed="tokenizer_config.json, and tokenizer.json or vocab.json with merges.txt",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
