"""Prompts of CLIP models: published templates, and truncation to the context length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffcls.models.clip_names import import_open_clip
from diffcls.models.prompt_truncation import warn_of_truncation
from diffcls.support.errors import unknown_name

PROMPTS_PER_CHUNK = 256

ENSEMBLES = {
    # Radford et al. 2021, as open_clip ships them
    "imagenet80": ("OPENAI_IMAGENET_TEMPLATES", ()),
    "imagenet7": ("SIMPLE_IMAGENET_TEMPLATES", ()),
    # of transformers' zero-shot image classification pipeline, whose example is SigLIP
    "siglip": ("", ("This is a photo of {}.",)),
    # `clip_paper` of big_vision, the default of the evaluator of Zhai et al. 2023
    "siglip81": ("OPENAI_IMAGENET_TEMPLATES", ("{}",)),
}
"""Name -> list of open_clip, if any, and further templates."""


def ensemble(name: str) -> tuple[str, ...]:
    """The templates of a published ensemble, each with one ``{}``.

    Raises:
        UsageError: for an unknown name.
        ModelError: if open_clip is not installed, and the templates are its.
    """
    if name not in ENSEMBLES:
        raise unknown_name("ensemble of templates", name, ENSEMBLES)
    shipped, further = ENSEMBLES[name]
    templates = getattr(import_open_clip(), shipped) if shipped else ()
    return (*(template("{}") for template in templates), *further)


def report_truncation(tokenize: Any, texts: Sequence[str], ids: Any) -> None:
    """Warn about texts that are longer than the model's context.

    A text fits where a context of twice the length adds nothing but padding. Only rows of ids that
    do not end as those of the empty text, in padding, are tokenized again.

    Args:
        tokenize: tokenizer of open_clip.
        texts: P texts.
        ids: (P, L) their token ids.
    """
    length = ids.shape[1]
    empty = tokenize([""])[0, -2:]
    full = [int(row) for row in (ids[:, -2:] != empty).any(dim=1).nonzero()[:, 0]]
    if not full:
        return
    longer = tokenize([texts[row] for row in full], context_length=2 * length)
    # the tokenizers of CLIPS put a class token behind the padding
    last = 1 if getattr(tokenize, "tokenizer_mode", "") == "clips" else 0
    kept = length - last
    rest = longer[:, kept : 2 * length - last]
    cut = (longer[:, :kept] != ids[full][:, :kept]).any(dim=1) | (rest != rest[:, -1:]).any(dim=1)
    truncated = [texts[row] for row, is_cut in zip(full, cut.tolist(), strict=True) if is_cut]
    warn_of_truncation(truncated, length)
