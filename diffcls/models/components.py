"""Pipeline components, loaded one by one so that missing tensors are detected."""

from __future__ import annotations

import importlib
import inspect
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.configs import check_files, check_tokenizer, check_values
from diffcls.models.family_table import AUTOENCODERS
from diffcls.models.json_files import read_json
from diffcls.models.memory_options import WHOLE_ON_DEVICE, MemoryOptions
from diffcls.models.model_index import ModelIndex
from diffcls.models.quantisation import check_quantised, is_packed, loading_arguments
from diffcls.models.quiet import loading
from diffcls.models.weight_files import (
    CONVERT,
    HALVES,
    PICKLES,
    check_shards,
    choose_variant,
    variants_of,
)
from diffcls.support.errors import DiffclsError, ModelError

if TYPE_CHECKING:
    import torch

CONFIGS = ("config.json", "scheduler_config.json")
NOT_EXPORTED = {"T5GemmaEncoder": "diffusers.pipelines.prx"}
"""Classes that transformers does not export; diffusers derives a loader of their configs."""
logger = logging.getLogger(__name__)


def open_pipeline(
    index: ModelIndex,
    dtype: torch.dtype,
    given: Mapping[str, Any] | None = None,
    variant: str | None = None,
    memory: MemoryOptions = WHOLE_ON_DEVICE,
    device: str = "cpu",
) -> Any:
    """Open a pipeline; each part is loaded on its own so that missing tensors are detected.

    Args:
        index: index of the pipeline's folder, as ``save_pretrained`` writes it.
        dtype: data type of all parts but the autoencoder, which stays in float32.
        given: parts that are loaded already, by name.
        variant: see `diffcls.models.weight_files.choose_variant`.
        memory: its quantisation and device map are those of text encoders and network.
        device: place of quantised parts, which cannot be moved.

    Raises:
        ModelError: for a variant that no part has, a part that is missing, incomplete or not
            finite, for a config with values
            that the part cannot have, and for parts that do not form a pipeline.
    """
    import torch

    folder = index.path.parent
    parts: dict[str, Any] = dict(given or {})
    variants: dict[str, str] = {}
    with loading():
        for part, place in index.parts.items():
            if part in parts:
                continue
            # an autoencoder may overflow in half precision, and is cheap beside the denoiser
            part_dtype = torch.float32 if part in AUTOENCODERS else dtype
            parts[part] = None
            if place is not None:
                extra = (
                    {} if part in AUTOENCODERS else _extra(place[0], part, dtype, memory, device)
                )
                opened = open_part(*place, folder / part, part_dtype, variants, variant, extra)
                parts[part] = opened
        if variant is not None and variant not in variants.values():
            raise ModelError(
                "no part of the model has weights of the chosen variant",
                given=variant,
                allowed=sorted(_variants_below(folder, index)),
                todo="remove --variant, or choose one of these",
            )
        _report_variants(variants, dtype != torch.float32, variant)
        return _pipeline_of(index, parts)


def _pipeline_of(index: ModelIndex, parts: dict[str, Any]) -> Any:
    import diffusers

    pipeline_class = getattr(diffusers, index.family)
    accepted = inspect.signature(pipeline_class).parameters
    parts = {name: part for name, part in parts.items() if part is not None or name in accepted}
    # settings beside the parts, such as DiT's class names
    extra = {k: v for k, v in index.settings.items() if k in accepted and k not in parts}
    check_values(index.path, extra, pipeline_class)
    if "safety_checker" in parts:
        extra["requires_safety_checker"] = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # raised by the library's own classes
            return pipeline_class(**parts, **extra)
    except Exception as error:  # whatever a constructor raises on values of another type
        raise ModelError(
            f"the parts do not form a {index.family} ({first_line(error)})",
            given=str(index.path),
            allowed="the parts that save_pretrained writes",
        ) from error


def _extra(
    library: str, part: str, dtype: torch.dtype, memory: MemoryOptions, device: str
) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a text encoder or a network."""
    if memory.device_map is not None:
        return {"device_map": memory.device_map}
    role = "text" if part.startswith("text_encoder") else "network"
    if memory.quantise is None or not memory.quantise.includes(role):
        return {}
    return loading_arguments(memory.quantise, library, dtype, device)


def open_part(
    library: str,
    class_name: str,
    folder: Path,
    dtype: torch.dtype,
    variants: dict[str, str],
    chosen: str | None,
    extra: dict[str, Any],
) -> Any:
    """A part of a pipeline; the variant of its weights is added to `variants`."""
    import torch

    kind = class_of_part(library, class_name, folder.name)
    if not folder.is_dir():
        raise ModelError("a part of the model is missing", given=str(folder))
    _check_part(kind, folder)
    try:
        if not issubclass(kind, torch.nn.Module):
            code = {"trust_remote_code": False} if "Tokenizer" in class_name else {}
            return kind.from_pretrained(folder, local_files_only=True, **code)
        names = [path.name for path in folder.iterdir()]
        variant = choose_variant(str(folder), names, dtype != torch.float32, chosen)
        variants[folder.name] = variant
        module, info = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            variant=variant or None,
            local_files_only=True,
            **extra,
            **({"trust_remote_code": False} if library == "transformers" else {}),
        )
    except DiffclsError:
        raise
    except BaseException as error:  # each library and file format has its own exceptions
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Ctrl-C; a panic is how the tokenizers' Rust code fails
        raise ModelError(
            f"cannot load part {folder.name!r} of the model ({first_line(error)})",
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
    if "quantization_config" in extra:
        check_quantised(folder.name, module)
    return module


def class_of_part(library: str, class_name: str, part: str) -> Any:
    """A class that `diffcls.models.model_index` accepts."""
    import diffusers
    import transformers

    place = {"diffusers": diffusers, "transformers": transformers}[library]
    if class_name in NOT_EXPORTED:
        place = importlib.import_module(NOT_EXPORTED[class_name])
    kind = getattr(place, class_name, None)
    base = diffusers.SchedulerMixin if part == "scheduler" else object
    if not isinstance(kind, type) or not issubclass(kind, base):
        raise ModelError(
            f"part {part!r} of the model is of a class that {library} does not have",
            given=class_name,
            todo=f"check {part} in model_index.json, or install a newer {library}",
        )
    return kind


def check_parts(index: ModelIndex) -> None:
    """Check the parts of a folder that completes a single file, and that diffusers opens.

    Raises:
        ModelError: as `open_pipeline`; and for pickles that diffusers would open in the absence of
            safetensors.
    """
    for part, place in index.parts.items():
        folder = index.path.parent / part
        if place is None or not folder.is_dir():
            continue
        _check_part(class_of_part(*place, part), folder)
        names = [path.name for path in folder.iterdir()]
        if any(name.endswith(PICKLES) for name in names) and "" not in variants_of(names):
            raise ModelError(
                f"part {part!r} has pickles and no plain safetensors; pickles are never opened",
                given=str(folder),
                todo=CONVERT,
            )


def _check_part(kind: Any, folder: Path) -> None:
    """Check the files of a part before a library reads them."""
    check_files(folder)
    if "Tokenizer" in kind.__name__:
        _check_tokenizer(folder)
        return
    check_shards(folder)
    for name in CONFIGS:
        path = folder / name
        if path.is_file():
            own = kind if kind.__module__.startswith("diffusers.") else None
            check_values(path, read_json(path), own)


def _variants_below(folder: Path, index: ModelIndex) -> set[str]:
    """Variants of all parts; weights without one are left out."""
    places = [folder / part for part, place in index.parts.items() if place is not None]
    names = ([path.name for path in place.iterdir()] for place in places if place.is_dir())
    return {variant for part in names for variant in variants_of(part)} - {""}


def _report_variants(variants: dict[str, str], half: bool, chosen: str | None) -> None:
    """Name the variant of the weights, unless it is the chosen one, or one for the precision."""
    usual = ("", chosen, *HALVES) if half else ("", chosen)
    named = {part: variant for part, variant in variants.items() if variant not in usual}
    if named:
        logger.warning(
            "weights are read from another variant than the plain files: %s",
            ", ".join(f"{variant} of {part}" for part, variant in named.items()),
        )


def check_finite(part: str, module: Any) -> None:
    """Raise ModelError for a weight that is not finite, or was not loaded."""
    import torch

    for name, tensor in module.state_dict().items():
        if is_packed(tensor) and not hasattr(tensor, "quant_type"):
            continue  # few bits have no value that is not finite; scales of GGUF's blocks may have
        if tensor.is_meta or not torch.isfinite(_values(tensor)).all():
            raise ModelError(f"weights of part {part!r} are not finite", given=name)


def _values(tensor: Any) -> Any:
    """A weight in single precision, from its blocks where it is quantised as in GGUF."""
    if not hasattr(tensor, "quant_type"):
        return tensor.float()
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    return dequantize_gguf_tensor(tensor).float()


def _check_tokenizer(folder: Path) -> None:
    """Raise for a tokenizer without files, which transformers replaces with an empty one.

    And for files that the tokenizer would misread.
    """
    names = {path.name for path in folder.iterdir()}
    vocabularies = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"spiece.model"})
    if "tokenizer_config.json" not in names or not any(files <= names for files in vocabularies):
        raise ModelError(
            "a file of the tokenizer is missing",
            given=str(folder),
            allowed="tokenizer_config.json, and tokenizer.json or vocab.json with merges.txt",
        )
    check_tokenizer(folder)


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
