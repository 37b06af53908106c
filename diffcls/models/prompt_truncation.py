"""Prompt truncation: warns about prompts longer than a model's context."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from diffcls.support.errors import ModelError

logger = logging.getLogger(__name__)

AT_A_TIME = 64
"""Prompts tokenized together; bounds memory, as a tokenizer stores kilobytes for each."""


def report_truncation(tokenizer: Any, prompts: Sequence[str], limit: int | None = None) -> None:
    """Warn about prompts longer than the model's context.

    Args:
        tokenizer: of the encoder that reads most of a prompt.
        prompts: all of them.
        limit: tokens that it reads; default: the tokenizer's own.

    Raises:
        ModelError: when two different prompts are the same to the model once they are cut.
    """
    limit = limit or tokenizer.model_max_length
    long = [text for text, tokens in _tokens(tokenizer, prompts) if len(tokens) > limit]
    if not long:
        return
    # the end token is always last
    seen: dict[tuple[int, ...], str] = {}
    for text, tokens in _tokens(tokenizer, prompts):
        other = seen.setdefault(tuple(tokens[: limit - 1]), text)
        if other != text and text in long:
            raise ModelError(
                f"two prompts are the same to the model, which reads {limit} tokens",
                given=[other, text],
                todo="shorten the template or the labels",
            )
    logger.warning("%d prompts are cut at %d tokens, the first is %r", len(long), limit, long[0])


def _tokens(tokenizer: Any, prompts: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each prompt with its tokens."""
    for first in range(0, len(prompts), AT_A_TIME):
        texts = list(prompts[first : first + AT_A_TIME])
        ids = tokenizer(texts, verbose=False).input_ids  # long prompts are reported here instead
        yield from zip(texts, ids, strict=True)
