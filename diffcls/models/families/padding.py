"""Padding of prompts to one length: what a row is does not depend on its neighbours.

Some pipelines pad a batch of prompts to its longest. The text encoder and the network then sum over
other numbers of zeros, and the last bits of a row change with its company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from diffcls.models.prompt_truncation import token_counts


def longest(tokenizer: Any, texts: Sequence[str], limit: int) -> int:
    """Tokens of the longest text, at most `limit`."""
    return min(max(token_counts(tokenizer, texts), default=1), limit)


@contextmanager
def padded_to(pipeline: Any, length: int) -> Iterator[None]:
    """Context in which the pipeline's tokenizer pads every batch to `length` tokens."""
    tokenizer = pipeline.tokenizer
    # not by setattr, with which a pipeline writes to its config
    vars(pipeline)["tokenizer"] = _Padding(tokenizer, length)
    try:
        yield
    finally:
        vars(pipeline)["tokenizer"] = tokenizer


class _Padding:
    """A tokenizer that pads to one length instead of the longest text of a batch."""

    def __init__(self, tokenizer: Any, length: int) -> None:
        self._tokenizer, self._length = tokenizer, length

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("padding") in (True, "longest"):
            kwargs |= {"padding": "max_length", "max_length": self._length, "truncation": True}
        return self._tokenizer(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def extended(rows: Tensor, length: int) -> Tensor:
    """(P, L, …) -> (P, length, …), zeros at the end."""
    if rows.shape[1] >= length:
        return rows[:, :length]
    zeros = rows.new_zeros(len(rows), length - rows.shape[1], *rows.shape[2:])
    return torch.cat([rows, zeros], dim=1)
