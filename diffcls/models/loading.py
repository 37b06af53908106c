"""From a name or a folder to a denoiser: the one place that opens weights."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.denoiser import Denoiser, ModelCard
from diffcls.errors import ModelError, unknown_name
from diffcls.models.quiet import quiet
from diffcls.registry import Registry

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parents[1] / "weights"
CARD = "diffcls.json"

# the class that a pipeline folder's model_index.json names -> its adapter
FAMILIES = Registry(
    "model family",
    {
        "StableDiffusionPipeline": "diffcls.models.diffusers_unet:StableDiffusionDenoiser",
        "StableDiffusionXLPipeline": "diffcls.models.sdxl:StableDiffusionXLDenoiser",
        "StableDiffusion3Pipeline": "diffcls.models.sd3:StableDiffusion3Denoiser",
        "FluxPipeline": "diffcls.models.flux:FluxDenoiser",
        "PixArtAlphaPipeline": "diffcls.models.pixart:PixArtDenoiser",
        "PixArtSigmaPipeline": "diffcls.models.pixart:PixArtDenoiser",
        "DiTPipeline": "diffcls.models.dit:DiTDenoiser",
        "DDPMPipeline": "diffcls.models.pixel_unet:ClassUNetDenoiser",
        "DDIMPipeline": "diffcls.models.pixel_unet:ClassUNetDenoiser",
    },
)


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in WEIGHTS.glob("*/model_index.json"))


def find(name: str) -> Path:
    """The folder of a bundled model's name or of a path.

    Raises:
        UsageError: for what is neither, with the allowed names and a "did you mean".
        ModelError: for a folder that holds no pipeline.
    """
    if name in bundled():
        return WEIGHTS / name
    folder = Path(name)
    if not folder.exists():
        raise unknown_name("model", name, [*bundled(), "PATH of a diffusers pipeline folder"])
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            "not a diffusers pipeline folder",
            given=name,
            allowed="a folder with model_index.json, as save_pretrained writes it",
        )
    return folder


def read_card(folder: Path, name: str | None = None) -> ModelCard:
    """The card of a pipeline folder; its revision is a hash of every weight and config."""
    path = folder / CARD
    stored: Mapping[str, Any] = _read_json(path) if path.is_file() else {}
    return ModelCard(
        name=name or stored.get("name") or folder.resolve().name,
        revision=_revision(folder),
        temperature=float(stored.get("temperature", 1.0)),
        trained_on=tuple(stored.get("trained_on", ())),
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read a file of the model ({error})", given=str(path)) from error
    if not isinstance(read, dict):
        raise ModelError("a file of the model is not what it should be", given=str(path))
    return read


def _revision(folder: Path) -> str:
    """A hash of what is loaded: the index, and every weight and config of the parts it names."""
    index = _read_json(folder / "model_index.json")
    parts = [folder / name for name, place in index.items() if isinstance(place, list) and place[0]]
    files = [path for part in parts for path in part.rglob("*")]
    digest = hashlib.sha256()
    for path in sorted([folder / "model_index.json", *files]):
        if path.suffix in (".json", ".safetensors", ".txt"):
            digest.update(path.relative_to(folder).as_posix().encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def load(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    img_size: int | None = None,
) -> Denoiser:
    """The denoiser of a bundled model or of a pipeline folder.

    Args:
        name: a bundled model's name, or a path.
        device, dtype: where and in what precision it runs; float32 by default on a CPU, bfloat16
            elsewhere.
        img_size: side of the images in pixels, default: what the model was trained on.

    Raises:
        UsageError: for an unknown name.
        ModelError: for a family that is not supported, a missing file or tensor, or weights that
            are not finite.
    """
    import torch

    folder = find(name)
    index = _read_json(folder / "model_index.json")
    family = str(index.get("_class_name"))
    if family not in FAMILIES:
        raise ModelError("model family not supported", given=family, allowed=FAMILIES)
    if dtype is None:
        dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    adapter: Any = FAMILIES.load(family)
    pipeline = _open(folder, index, dtype)
    denoiser: Denoiser = adapter(pipeline, read_card(folder), device, dtype, img_size)
    return denoiser


def _open(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The pipeline, each part loaded on its own so that missing tensors are seen."""
    import diffusers
    import torch
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    parts: dict[str, Any] = {}
    with quiet():
        for part, place in index.items():
            if part.startswith("_") or not isinstance(place, list) or len(place) != 2:
                continue
            if place[0] is None or part in ("safety_checker", "feature_extractor"):
                parts[part] = None
                continue
            kind = getattr(libraries.get(place[0]), str(place[1]), None)
            if not isinstance(kind, type):
                raise ModelError(
                    f"part {part!r} of the model needs code of its own",
                    given=place,
                    allowed=list(libraries),
                )
            # an autoencoder overflows in half precision, and costs little beside the denoiser
            wanted = torch.float32 if part == "vae" else dtype
            parts[part] = _open_part(kind, folder / part, wanted)
        pipeline_class = getattr(diffusers, str(index["_class_name"]))
        takes = inspect.signature(pipeline_class).parameters
        # settings that stand beside the parts, as DiT's names of its classes
        extra = {k: v for k, v in index.items() if k in takes and k not in parts}
        if "safety_checker" in parts:
            extra["requires_safety_checker"] = False
        try:
            return pipeline_class(**parts, **extra)
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"the parts make no {index['_class_name']} ({_first_line(error)})",
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
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # each library and file format has its own exceptions
        raise ModelError(
            f"cannot load part {folder.name!r} of the model ({_first_line(error)})",
            given=str(folder),
            todo="check that every file of the model is there and whole, in safetensors",
        ) from error
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise ModelError(
            f"{len(missing)} tensors are missing in part {folder.name!r} of the model",
            given=missing[0],
            todo="get the whole file again",
        )
    for tensor_name, tensor in module.state_dict().items():
        if tensor.is_meta or not torch.isfinite(tensor.float()).all():
            raise ModelError(f"weights of part {folder.name!r} are not finite", given=tensor_name)
    return module


def _check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer without its files: transformers makes one that knows no word instead."""
    names = {path.name for path in folder.iterdir()}
    words = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"spiece.model"})
    if "tokenizer_config.json" not in names or not any(files <= names for files in words):
        raise ModelError(
            "a file of the tokenizer is missing",
            given=str(folder),
            allowed="tokenizer_config.json, and tokenizer.json or vocab.json with merges.txt",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
