"""Prompts as token ids: truncation to a model's context, and prompts with the same tokens."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from diffcls.support.errors import ModelError

logger = logging.getLogger(__name__)

PROMPTS_PER_CHUNK = 64
"""Prompts tokenized together; bounds memory, as a tokenizer stores kilobytes for each."""


def report_truncation(
    tokenizer: Any,
    prompts: Sequence[str],
    limit: int | None = None,
    texts: Sequence[str] | None = None,
) -> None:
    """Warn about prompts longer than the model's context; a learned word counts all its vectors.

    Args:
        tokenizer: tokenizer of the text encoder with the longest context.
        prompts: all prompts.
        limit: maximum tokens of a text; default: the tokenizer's own.
        texts: the prompts as the encoder reads them, such as within a template or after an
            instruction; default: the prompts.

    Raises:
        ModelError: if two different prompts become equal by truncation.
    """
    limit = limit or tokenizer.model_max_length
    texts = with_all_vectors(tokenizer, prompts if texts is None else texts)
    tokenized = zip(prompts, _tokens(tokenizer, texts), strict=True)
    long = [prompt for prompt, (_, tokens) in tokenized if len(tokens) > limit]
    if not long:
        return
    # the end token is always last
    first_with: dict[tuple[int, ...], tuple[str, str]] = {}
    for prompt, (text, tokens) in zip(prompts, _tokens(tokenizer, texts), strict=True):
        other, other_text = first_with.setdefault(tuple(tokens[: limit - 1]), (prompt, text))
        if other_text != text and prompt in long:
            raise ModelError(
                f"two prompts are equal after truncation to {limit} tokens",
                given=[other, prompt],
                todo="shorten the template or the labels",
            )
    warn_of_truncation(long, limit)


def with_all_vectors(tokenizer: Any, texts: Sequence[str]) -> Sequence[str]:
    """Texts in which a learned word of several vectors stands for all of them, as encoders read it.

    Its vectors are the tokens ``<x>``, ``<x>_1``, …, which diffusers puts in place of ``<x>``.
    """
    added = getattr(tokenizer, "added_tokens_encoder", {})
    words = {name: [name] for name in added if f"{name}_1" in added}
    for name, vectors in words.items():
        while (following := f"{name}_{len(vectors)}") in added:
            vectors.append(following)
    for name, vectors in words.items():
        texts = [text.replace(name, " ".join(vectors)) for text in texts]
    return texts


def in_chat_template(tokenizer: Any, prompts: Sequence[str], thinking: bool) -> list[str]:
    """Each prompt as the message of a user, in the tokenizer's chat template.

    Args:
        tokenizer: with a ``chat_template``.
        prompts: all prompts.
        thinking: the template's ``enable_thinking``.
    """
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        for prompt in prompts
    ]


def warn_of_truncation(truncated: Sequence[str], limit: int) -> None:
    """Log a warning with the number of truncated prompts, if there are any, and the first."""
    if truncated:
        logger.warning(
            "%d prompts are truncated to %d tokens, the first is %r",
            len(truncated),
            limit,
            truncated[0],
        )


def token_keys(tokenizers: Sequence[Any], prompts: Sequence[str]) -> list[Hashable]:
    """(P,) the token ids of each prompt by all tokenizers; equal for prompts that a model with
    these tokenizers cannot tell apart, such as texts that differ only in case.
    """
    by_tokenizer = [
        [array("q", ids).tobytes() for _, ids in _tokens(tokenizer, prompts)]
        for tokenizer in tokenizers
    ]
    return list(zip(*by_tokenizer, strict=True))


def token_counts(tokenizer: Any, texts: Sequence[str]) -> Iterator[int]:
    """Number of tokens of each text, without truncation."""
    return (len(tokens) for _, tokens in _tokens(tokenizer, texts))


def _tokens(tokenizer: Any, prompts: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each prompt with its tokens."""
    for first in range(0, len(prompts), PROMPTS_PER_CHUNK):
        texts = list(prompts[first : first + PROMPTS_PER_CHUNK])
        ids = tokenizer(texts, verbose=False).input_ids  # long prompts are reported here instead
        yield from zip(texts, ids, strict=True)
