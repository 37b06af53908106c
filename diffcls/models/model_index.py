"""Index of a pipeline, ``model_index.json``: its family, and the class of each of its parts.

Only the classes that a family uses are accepted. All of them are part of diffusers and
transformers: a model cannot name a class that loads code of its own, such as ``AutoModel``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.models.json_files import read_json, shortened, wrong_value
from diffcls.support.errors import ModelError

INDEX = "model_index.json"
DIFFUSERS, TRANSFORMERS = "diffusers", "transformers"

ANY_SCHEDULER = (DIFFUSERS, r"\w+Scheduler")
AUTOENCODER = (DIFFUSERS, "AutoencoderKL")
CLIP_TEXT = (TRANSFORMERS, "CLIPTextModel")
CLIP_TEXT_PROJECTED = (TRANSFORMERS, "CLIPTextModelWithProjection")
CLIP_TOKENIZER = (TRANSFORMERS, "CLIPTokenizer|CLIPTokenizerFast")
T5 = (TRANSFORMERS, "T5EncoderModel")
T5_TOKENIZER = (TRANSFORMERS, "T5Tokenizer|T5TokenizerFast")
UNET = (DIFFUSERS, "UNet2DConditionModel")
PIXART = {
    "vae": AUTOENCODER,
    "text_encoder": T5,
    "tokenizer": T5_TOKENIZER,
    "transformer": (DIFFUSERS, "PixArtTransformer2DModel|Transformer2DModel"),
    "scheduler": ANY_SCHEDULER,
}
PIXEL_UNET = {"unet": (DIFFUSERS, "UNet2DModel"), "scheduler": ANY_SCHEDULER}

# family -> part -> its library and the pattern of its class
PARTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "StableDiffusionPipeline": {
        "vae": AUTOENCODER,
        "text_encoder": CLIP_TEXT,
        "tokenizer": CLIP_TOKENIZER,
        "unet": UNET,
        "scheduler": ANY_SCHEDULER,
    },
    "StableDiffusionXLPipeline": {
        "vae": AUTOENCODER,
        "text_encoder": CLIP_TEXT,
        "text_encoder_2": CLIP_TEXT_PROJECTED,
        "tokenizer": CLIP_TOKENIZER,
        "tokenizer_2": CLIP_TOKENIZER,
        "unet": UNET,
        "scheduler": ANY_SCHEDULER,
    },
    "StableDiffusion3Pipeline": {
        "vae": AUTOENCODER,
        "text_encoder": CLIP_TEXT_PROJECTED,
        "text_encoder_2": CLIP_TEXT_PROJECTED,
        "text_encoder_3": T5,
        "tokenizer": CLIP_TOKENIZER,
        "tokenizer_2": CLIP_TOKENIZER,
        "tokenizer_3": T5_TOKENIZER,
        "transformer": (DIFFUSERS, "SD3Transformer2DModel"),
        "scheduler": ANY_SCHEDULER,
    },
    "FluxPipeline": {
        "vae": AUTOENCODER,
        "text_encoder": CLIP_TEXT,
        "text_encoder_2": T5,
        "tokenizer": CLIP_TOKENIZER,
        "tokenizer_2": T5_TOKENIZER,
        "transformer": (DIFFUSERS, "FluxTransformer2DModel"),
        "scheduler": ANY_SCHEDULER,
    },
    "PixArtAlphaPipeline": PIXART,
    "PixArtSigmaPipeline": PIXART,
    "DiTPipeline": {
        "vae": AUTOENCODER,
        "transformer": (DIFFUSERS, "DiTTransformer2DModel|Transformer2DModel"),
        "scheduler": ANY_SCHEDULER,
    },
    "DDPMPipeline": PIXEL_UNET,
    "DDIMPipeline": PIXEL_UNET,
}
OPTIONAL = ("text_encoder_3", "tokenizer_3")
"""Parts that a pipeline may lack: SD 3 runs without T5."""
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that classification does not use, and that are not opened."""


@dataclass(frozen=True)
class ModelIndex:
    """Content of ``model_index.json``.

    Args:
        family: name of the pipeline's class.
        parts: part -> library and class; None for a part that the pipeline lacks, or that is not
            used.
        settings: entries beside the parts, such as DiT's class names.
        named: all entries that name a class, those of unused parts too.
        path: the file.
    """

    family: str
    parts: Mapping[str, tuple[str, str] | None]
    settings: Mapping[str, Any]
    named: tuple[str, ...]
    path: Path


def read_index(folder: Path) -> ModelIndex:
    """Read the index of a pipeline, and check it without opening a part.

    Raises:
        ModelError: for a family that is not supported, a part that is missing or of a class that
            its family does not use, or an entry of another type.
    """
    path = folder / INDEX
    content = read_json(path)
    family = content.get("_class_name")
    if not isinstance(family, str) or family not in PARTS:
        raise ModelError("model family not supported", given=shortened(family), allowed=PARTS)
    classes = PARTS[family]
    parts: dict[str, tuple[str, str] | None] = {}
    settings: dict[str, Any] = {}
    for name, entry in content.items():
        if name.startswith("_"):
            continue
        if name in classes:
            parts[name] = _class_of(path, name, entry, *classes[name])
        elif name in UNUSED:
            parts[name] = None
        elif isinstance(entry, list) and entry != [None, None]:
            raise ModelError(
                f"part {shortened(name)!r} of the model is not one of a {family}",
                given=shortened(entry),
                allowed=classes,
            )
        else:
            settings[name] = entry
    for name in classes:
        if parts.get(name) is None and name not in OPTIONAL:
            raise ModelError(
                f"part {name!r} of the model is missing",
                given=str(path),
                allowed=f"the parts of a {family}: {', '.join(classes)}",
            )
    if (parts.get(OPTIONAL[0]) is None) != (parts.get(OPTIONAL[1]) is None):
        raise ModelError(f"only one of {' and '.join(OPTIONAL)} is there", given=str(path))
    _check_class_names(path, settings.get("id2label", {}))
    named = [
        name
        for name in (*classes, *UNUSED)
        if isinstance(entry := content.get(name), list) and entry and entry[0]
    ]
    return ModelIndex(family, parts, settings, tuple(named), path)


def _class_of(
    path: Path, part: str, entry: object, library: str, pattern: str
) -> tuple[str, str] | None:
    """Library and class of an entry; None for a part that is left out."""
    if entry is None or entry == [None, None]:
        return None
    if not isinstance(entry, list) or len(entry) != 2:
        raise wrong_value(path, part, entry, "a library and a class of it, as a list of two texts")
    class_name = entry[1]
    known = isinstance(class_name, str) and re.fullmatch(pattern, class_name, re.ASCII)
    if entry[0] != library or not known:
        shown = pattern.replace("|", ", ").replace(r"\w+", "any ")
        raise ModelError(
            f"part {part!r} of the model is of a class that this family does not use",
            given=shortened(entry),
            allowed=f"{shown} of {library}; code of a model is never run",
        )
    return library, class_name


def _check_class_names(path: Path, names: object) -> None:
    """Raise unless `names` maps class ids to texts, as DiT's ``id2label`` does."""
    allowed = "texts by class id"
    if not isinstance(names, dict):
        raise wrong_value(path, "id2label", names, allowed)
    for key, text in names.items():
        if not key.isdecimal() or not isinstance(text, str):
            raise wrong_value(path, f"id2label[{key!r}]", text, allowed)
