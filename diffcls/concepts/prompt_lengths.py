"""Prompts of a learning: whether the text encoders read all of them, before anything is learned.

What is cut from a prompt has no gradient: a vector behind the limit would stay as it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from diffcls.models.concept_files import KEYS
from diffcls.models.concepts import check_family, check_new, tokenizer_of
from diffcls.models.prompt_truncation import token_counts
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.concepts.options import ConceptSettings


def check_prompts(denoiser: Any, settings: ConceptSettings, templates: Sequence[str]) -> None:
    """Check that the model can have the new word, and that its encoders read every prompt whole.

    Args:
        denoiser: the model, without the new word.
        settings: see `ConceptSettings`.
        templates: prompt templates with ``{}``.

    Raises:
        UsageError: for a token that the model has, more vectors than fit, or a prompt that is cut.
        ModelError: for a family that cannot have new words.
    """
    pipeline, kind = denoiser.pipeline, settings.kind()
    parts = KEYS[check_family(pipeline)]
    tokenizers = [getattr(pipeline, tokenizer_of(part)) for part in parts]
    if "vectors" in kind.reads:
        check_new(pipeline, settings.name, parts)
        _check_vectors(tokenizers, settings.vectors, templates)
    names = kind.fillings(settings)
    _check_whole(tokenizers, [t.replace("{}", name) for name in names for t in templates])


def _check_vectors(tokenizers: Iterable[Any], count: int, templates: Sequence[str]) -> None:
    """Raise UsageError if V vectors and the words of a template exceed an encoder's length."""
    rooms = [row for tokenizer in tokenizers for row in _rooms(tokenizer, templates)]
    room, template = min(rooms, key=lambda row: row[0])
    if count > room:
        raise UsageError(
            "--vectors: more than the model's text encoder reads",
            given=f"{count} in {template!r}",
            allowed=f"at most {room}" if room > 0 else "none: the template is too long",
            todo="choose fewer, or shorter prompts with --template",
        )


def _rooms(tokenizer: Any, templates: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Number of vectors that fit, and the template.

    An added token divides a text: what is before and behind it is read as if it stood alone.
    """
    (ends,) = token_counts(tokenizer, [""])  # start and end token
    for template in templates:
        sides = token_counts(tokenizer, template.split("{}"))
        yield tokenizer.model_max_length - ends - sum(side - ends for side in sides), template


def _check_whole(tokenizers: Iterable[Any], prompts: Sequence[str]) -> None:
    """Raise UsageError for a prompt that exceeds an encoder's length."""
    for tokenizer in tokenizers:
        limit = tokenizer.model_max_length
        for prompt, count in zip(prompts, token_counts(tokenizer, prompts), strict=True):
            if count > limit:
                raise UsageError(
                    "a prompt of the learning is longer than the model's text encoder reads",
                    given=f"{prompt!r} of {count} tokens",
                    allowed=f"at most {limit}",
                    todo="shorten --template, or the names of classes",
                )
