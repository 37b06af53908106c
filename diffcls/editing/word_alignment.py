"""Alignment of two prompts: which tokens of the second continue which tokens of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor

from diffcls.models.prompt_truncation import with_all_vectors
from diffcls.support.errors import ModelError


@dataclass(frozen=True)
class Words:
    """A prompt as words with their tokens.

    Args:
        words: the words.
        ids: ids of the tokens of each word, by which words are compared.
        tokens: place of the tokens of each word among all S tokens of the padded prompt.
        end: place of the token that ends the text.
        length: S.
    """

    words: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    end: int
    length: int

    @classmethod
    def of(cls, tokenizer: Any, prompt: str) -> Words:
        """The words of a prompt.

        Raises:
            ModelError: for a tokenizer that does not split it at its spaces, or a prompt that is
                too long.
        """
        words = tuple(prompt.split())
        length = int(tokenizer.model_max_length)
        *read, text = with_all_vectors(tokenizer, [*words, prompt])
        whole = tokenizer(text, verbose=False).input_ids  # its length is checked here
        if len(whole) > length:
            raise ModelError(
                "the prompt is too long", given=prompt, allowed=f"{length - 2} tokens or fewer"
            )
        ids = [tuple(tokenizer(word, add_special_tokens=False).input_ids) for word in read]
        begin = len(tokenizer("").input_ids) - 1  # a token before the text, if the model has one
        if [i for part in ids for i in part] != whole[begin : len(whole) - 1]:
            raise ModelError(
                "the words of the prompt have no tokens of their own",
                given=prompt,
                allowed="words between single spaces",
            )
        tokens, place = [], begin
        for part in ids:
            tokens.append(tuple(range(place, place + len(part))))
            place += len(part)
        return cls(words, tuple(ids), tuple(tokens), place, length)


@dataclass(frozen=True)
class Alignment:
    """How the attention of a source prompt is carried to a target prompt.

    Args:
        carry: (S, S) source token × target token; a column sums to less than 1 where several
            tokens share the attention of one.
        is_new: (S,) target tokens without a source, which keep their own attention.
    """

    carry: Tensor
    is_new: Tensor


def align(source: Words, target: Words) -> Alignment:
    """The alignment of two prompts, word by word.

    Words that stay carry their attention token by token. A word that replaces another takes over
    its attention (word swap; Hertz et al. 2023, section 3.2); where more or fewer words take the
    place of others, they share the attention of these equally. Words that are added keep their own
    (prompt refinement).
    """
    carry = torch.zeros(source.length, target.length)
    is_new = torch.zeros(target.length, dtype=torch.bool)
    matcher = SequenceMatcher(None, source.ids, target.ids, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        old, new = _tokens(source, a, b), _tokens(target, c, d)
        if kind == "equal":
            for i, j in zip(old, new, strict=True):
                carry[i, j] = 1
        elif kind == "replace" and b - a == d - c:
            for before, after in zip(source.tokens[a:b], target.tokens[c:d], strict=True):
                _share(carry, before, after)
        elif kind == "replace":
            _share(carry, old, new)
        else:
            is_new[new] = True
    first = source.tokens[0][0] if source.tokens else source.end
    for i in range(first):  # the tokens before the text
        carry[i, i] = 1
    _carry_padding(carry, source, target)
    return Alignment(carry, is_new)


def _share(carry: Tensor, old: Sequence[int], new: Sequence[int]) -> None:
    """Divide the attention of tokens equally among others."""
    for i in old:
        carry[i, list(new)] = 1 / len(new)


def _carry_padding(carry: Tensor, source: Words, target: Words) -> None:
    """Carry the attention of the end of the text and of the padding behind it, nothing twice.

    Of tails of different lengths, the last token of the shorter one stands for the surplus.
    """
    old = list(range(source.end, source.length))
    new = list(range(target.end, target.length))
    both = min(len(old), len(new)) - 1
    for i, j in zip(old[:both], new[:both], strict=True):
        carry[i, j] = 1
    _share(carry, old[both:], new[both:])


def _tokens(words: Words, first: int, last: int) -> list[int]:
    return [token for part in words.tokens[first:last] for token in part]


def tokens_of(words: Words, word: str) -> Sequence[int]:
    """Places of the tokens of a word, all of its occurrences; empty if the prompt lacks it."""
    return [
        token
        for one, tokens in zip(words.words, words.tokens, strict=True)
        if bare(one) == bare(word)
        for token in tokens
    ]


def bare(word: str) -> str:
    """A word without case and punctuation around it."""
    return word.casefold().strip(".,;:!?")
