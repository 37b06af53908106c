"""Learned concepts in a pipeline: new tokens of its text encoders, or a merged LoRA."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.components import first_line
from diffcls.models.concept_files import KEYS, LORA, parse, read_vectors
from diffcls.models.family_table import FAMILY_TABLE
from diffcls.models.lora import merge
from diffcls.models.quiet import loading
from diffcls.support.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.models.denoiser import ModelCard

logger = logging.getLogger(__name__)


def add(pipeline: Any, text: str, card: ModelCard) -> str:
    """Load a concept into a pipeline, in place; returns its part of the model's revision.

    Args:
        pipeline: diffusers pipeline.
        text: see `diffcls.models.concept_files.parse`.
        card: card of the model, to warn about a concept that was learned for another one.

    Raises:
        UsageError: for a token that the model has already.
        ModelError: for a family that reads no text or is not supported, or vectors of another width
            than the text encoder's.
    """
    concept = parse(text)
    learned_for = concept.model.get("revision", "")
    if learned_for and not card.revision.startswith(learned_for):
        logger.warning(
            "the concept %s was learned for %s, revision %s, not for %s",
            *(concept.phrase, concept.model["name"], learned_for, card.name),
        )
    if concept.is_lora:
        merge(pipeline, str(concept.path))
    else:
        vectors = read_vectors(concept, check_family(pipeline))
        add_vectors(pipeline, concept.phrase, vectors)
    return concept.revision


def check_family(pipeline: Any) -> str:
    """The name of the class of a pipeline that can have new tokens.

    Raises:
        ModelError: for any other.
    """
    return check_family_name(type(pipeline).__name__)


def check_family_name(family: str) -> str:
    """The name of a family, whose models can have new tokens.

    Raises:
        ModelError: for any other.
    """
    if family not in KEYS:
        known = FAMILY_TABLE.get(family)
        raise ModelError(
            "a class-conditional model has no words, so no concept can be added"
            if known is not None and known.reads_class_ids
            else "this model family cannot have new words",
            given=family,
            allowed=KEYS,
        )
    return family


def add_vectors(pipeline: Any, token: str, vectors: Mapping[str, Tensor]) -> None:
    """Add a token with its vectors to each text encoder, as ``load_textual_inversion`` does.

    Several vectors become the tokens ``<x>``, ``<x>_1``, …, which diffusers puts in place of
    ``<x>`` in a prompt. No other weight changes.

    Args:
        pipeline: of a family in `diffcls.models.concept_files.KEYS`.
        token: the new token.
        vectors: text encoder -> (V, D).

    Raises:
        UsageError, ModelError: see `add`.
    """
    check_new(pipeline, token, vectors)
    for part, rows in vectors.items():
        encoder = getattr(pipeline, part)
        width = encoder.get_input_embeddings().weight.shape[-1]
        if rows.shape[-1] != width:
            raise ModelError(
                f"the concept {token} was learned for a text encoder of another width",
                given=int(rows.shape[-1]),
                allowed=f"{width}, that of this model",
                todo="name the model that it was learned for with --model",
            )
    for part in vectors:  # whose size changes; a view shares it with its pipeline
        encoder = getattr(pipeline, part)
        encoder.config = copy.deepcopy(encoder.config)
    try:
        with loading():
            for part, rows in vectors.items():
                pipeline.load_textual_inversion(
                    rows,
                    token=token,
                    text_encoder=getattr(pipeline, part),
                    tokenizer=getattr(pipeline, tokenizer_of(part)),
                )
    except Exception as error:  # whatever diffusers and transformers raise
        raise ModelError(
            f"cannot add a token ({type(error).__name__}: {first_line(error)})", given=token
        ) from error
    for part in vectors:
        tokens = getattr(pipeline, tokenizer_of(part)).tokenize(f"a {token}.")
        if token not in tokens:
            raise ModelError(
                "the tokenizer does not read a new token as one",
                given=f"{token} as {' '.join(tokens)}",
                todo="choose a name of lower-case letters in angle brackets",
            )


def merge_tensors(pipeline: Any, network: Any, tensors: Mapping[str, Tensor]) -> None:
    """Merge a LoRA in memory into a pipeline whose network shares its weights with another one.

    Args:
        pipeline: diffusers pipeline.
        network: the network, whose weights are copied before they change.
        tensors: content of a LoRA file.
    """
    from safetensors.torch import save_file

    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LORA
        save_file(dict(tensors), path)
        merge(pipeline, str(path))


def check_new(pipeline: Any, token: str, parts: Any) -> None:
    """Raise UsageError for a token that a tokenizer has already."""
    for part in parts:
        vocabulary = getattr(pipeline, tokenizer_of(part)).get_vocab()
        taken = [name for name in (token, f"{token}</w>", f"{token}_1") if name in vocabulary]
        if taken:
            raise UsageError(
                "the name of the concept is a token of the model already",
                given=taken[0].removesuffix("</w>"),
                todo="choose another name, such as <my-mug>",
            )


def tokenizer_of(part: str) -> str:
    """Name of the tokenizer of a text encoder."""
    return part.replace("text_encoder", "tokenizer")


def token_ids(pipeline: Any, token: str, part: str, count: int) -> list[int]:
    """Ids of the V tokens ``<x>``, ``<x>_1``, … of a concept."""
    tokenizer = getattr(pipeline, tokenizer_of(part))
    names = [token, *(f"{token}_{i}" for i in range(1, count))]
    return [int(i) for i in tokenizer.convert_tokens_to_ids(names)]
