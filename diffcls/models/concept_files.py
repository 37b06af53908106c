"""Files of a learned concept: a folder of ours, or an embedding or LoRA file made elsewhere.

A folder holds ``concept.json``, the card, beside weights in the formats of diffusers and peft:
``learned_embeds.safetensors`` of textual inversion (Gal et al. 2023), or
``pytorch_lora_weights.safetensors`` of DreamBooth (Ruiz et al. 2023). Files are never unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.support.errors import ModelError, UsageError
from diffcls.support.hashing import hash_file
from diffcls.support.paths import expand
from diffcls.support.stored_json import parse_json

if TYPE_CHECKING:
    from torch import Tensor

CARD = "concept.json"
"""File that describes a learned concept; written last, it marks the learning as finished."""
EMBEDDINGS = "learned_embeds.safetensors"
"""Name under which diffusers' ``load_textual_inversion`` finds embeddings in a folder."""
LORA = "pytorch_lora_weights.safetensors"
"""Name under which diffusers' ``load_lora_weights`` finds a LoRA in a folder."""
TOKEN = re.compile(r"<[a-z0-9][a-z0-9._-]*>")
"""Names of concepts: in lower case, as the tokenizers of CLIP fold it, and without spaces."""
KEYS: Mapping[str, Mapping[str, str]] = {
    "StableDiffusionPipeline": {"text_encoder": ""},
    "StableDiffusionXLPipeline": {"text_encoder": "clip_l", "text_encoder_2": "clip_g"},
}
"""Family -> text encoder -> key of its vectors in a file; with one encoder it is the token."""
A1111_KEY = "emb_params"
"""Key of the vectors in safetensors files of the Automatic1111 web UI, whose token is the file's
name."""
FORMS = "FOLDER, FILE.safetensors, FOLDER=LABEL or FILE.safetensors=LABEL"


@dataclass(frozen=True)
class Concept:
    """A learned concept, as its files describe it; no weights are read.

    Args:
        path: the file of weights.
        phrase: what stands for the class in a prompt: the token, or the words of DreamBooth.
        label: name of the class, as given behind ``=``; else the phrase, without brackets if those
            of `in_brackets` are not the file's.
        is_given: whether the label was given.
        is_lora: whether the weights are a LoRA; else they are embeddings.
        images: number of images that it was learned from; None if unknown.
        hashes: hashes of these images, see `diffcls.data.seen_images.hash_image`.
        model: name and revision of the model that it was learned for; empty if unknown.
    """

    path: Path
    phrase: str
    label: str
    is_given: bool
    is_lora: bool
    images: int | None = None
    hashes: tuple[int, ...] = ()
    model: Mapping[str, str] = field(default_factory=dict)

    @property
    def revision(self) -> str:
        """Its part of the revision of the model that it is loaded into: phrase and content."""
        return f"concept {self.phrase} {hash_file(self.path, 8)}"


def check_token(name: str) -> None:
    """Raise UsageError unless a name can be a new token of every CLIP tokenizer."""
    if not TOKEN.fullmatch(name):
        raise UsageError(
            "--name is no name of a concept",
            given=name,
            allowed='lower-case letters, digits, ".", "_" and "-" in angle brackets, as "<my-mug>"',
        )


def parse(text: str) -> Concept:
    """The concept of ``FOLDER``, ``FILE``, ``FOLDER=LABEL`` or ``FILE=LABEL``.

    Raises:
        UsageError: for anything else, or a LoRA made elsewhere without a label.
        ModelError: for a folder without a concept, or files that cannot be read.
    """
    name, equals, label = text.rpartition("=")
    if not equals or Path(expand(text)).exists():
        name, equals, label = text, "", ""
    path, label = Path(expand(name)), label.strip()
    if equals and not label:
        raise UsageError("cannot parse --concept: no label after =", given=text, allowed=FORMS)
    if path.is_dir():
        return _of_folder(path, label)
    if not path.is_file() or path.suffix != ".safetensors":
        raise UsageError("--concept: not found, or not safetensors", given=str(name), allowed=FORMS)
    return _of_file(path, label)


def _of_folder(folder: Path, label: str) -> Concept:
    if not (folder / CARD).is_file():
        for name in (EMBEDDINGS, LORA):
            if (folder / name).is_file():
                return _of_file(folder / name, label)
        raise ModelError(
            "--concept: no learned concept in the folder",
            given=str(folder),
            allowed=f"a folder with {EMBEDDINGS} or {LORA}",
            todo="learn one with python -m diffcls.learn_concept, or rerun that command to finish",
        )
    card = read_card(folder)
    try:
        images, model = card["images"], card["model"]
        path = folder / card["file"]
        concept = Concept(
            path=path,
            phrase=str(card["phrase"]),
            label=label or str(card["name"]),
            is_given=bool(label),
            is_lora=path.name == LORA,
            images=int(images["count"]),
            hashes=tuple(int(h, 16) for h in images["hashes"]),
            model={key: str(model[key]) for key in ("name", "revision")},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the card of a concept cannot be read ({type(error).__name__}: {error})",
            given=str(folder / CARD),
        ) from error
    if not path.is_file():
        raise ModelError("a file of the concept is missing", given=str(path))
    return concept


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a concept that was learned here.

    Raises:
        ModelError: for a file that is no JSON object.
    """
    try:
        card = parse_json((folder / CARD).read_bytes())
        if not isinstance(card, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the card of a concept cannot be read ({error})", given=str(folder / CARD)
        ) from error
    whole: dict[str, Any] = card
    return whole


def _of_file(path: Path, label: str) -> Concept:
    names = tensor_names(path)
    is_lora = any(".lora" in name or "lora_" in name for name in names)
    if is_lora:
        if not label:
            raise UsageError(
                "--concept: a LoRA made elsewhere needs the label of its class",
                given=str(path),
                allowed=f"{path}=LABEL, with the words that it was trained with",
                todo="or merge it for all classes with --lora",
            )
        return Concept(path, label, label, True, True)
    folder_name = path.parent.name if path.name == EMBEDDINGS else path.stem
    if len(names) == 1 and names[0] != A1111_KEY:
        word = names[0]
    elif set(names) == {A1111_KEY} or set(names) <= {"clip_l", "clip_g"}:
        word = folder_name
    else:
        raise ModelError(
            "--concept: neither embeddings of one token nor a LoRA",
            given=f"{path} with {', '.join(names[:4]) or 'no tensor'}",
        )
    return Concept(path, in_brackets(word), label or word, bool(label), False)


def in_brackets(word: str) -> str:
    """The token of a word of embeddings made elsewhere, such as ``<irt>`` of ``irt``.

    A new token is found everywhere in a text: ``irt`` would divide "shirt" as well. In brackets it
    is found where it is meant, and no prompt without it has other tokens than before.
    """
    return word if word.startswith("<") and word.endswith(">") else f"<{word.lower()}>"


def tensor_names(path: Path) -> list[str]:
    """The names of the tensors of a safetensors file, from its header.

    Raises:
        ModelError: for a file that is not safetensors.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= 100_000_000:
                raise ValueError("no header")
            header = json.loads(file.read(length))
        return sorted(name for name in header if name != "__metadata__")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"--concept: cannot read the file as safetensors ({error})", given=str(path)
        ) from error


def read_vectors(concept: Concept, family: str) -> dict[str, Tensor]:
    """Text encoder -> its vectors (V, D), float32.

    Args:
        concept: of embeddings.
        family: name of the pipeline class that they are for.

    Raises:
        ModelError: for a file of another family, vectors that are not finite, or a file that cannot
            be read.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(concept.path)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"cannot read a concept ({error})", given=str(concept.path)) from error
    keys = KEYS[family]
    if len(keys) == 1 and len(tensors) == 1:
        tensors = dict.fromkeys(keys.values(), next(iter(tensors.values())))
    if set(tensors) != set(keys.values()):
        raise ModelError(
            "the concept was learned for another family of models",
            given=f"{concept.path} has vectors of {', '.join(tensors)}",
            allowed=f"for {family}: {' and '.join(filter(None, keys.values())) or 'one token'}",
        )
    vectors = {}
    for part, key in keys.items():
        value = tensors[key].float()
        if value.ndim not in (1, 2) or not torch.isfinite(value).all():
            raise ModelError(
                "vectors of a concept are not finite, or no vectors",
                given=f"{concept.path}, shape {tuple(value.shape)}",
            )
        vectors[part] = value.reshape(-1, value.shape[-1])  # (V, D)
    return vectors


def tensors_of(token: str, vectors: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """The content of a file that diffusers' ``load_textual_inversion`` reads.

    Args:
        token: the new token.
        vectors: text encoder -> (V, D).
        family: name of the pipeline class.
    """
    keys = KEYS[family]
    return {keys[part] or token: rows.contiguous().float() for part, rows in vectors.items()}
