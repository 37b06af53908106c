"""Alignment of two prompts: which tokens carry whose attention."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcls.editing.word_alignment import Words, align, tokens_of
from diffcls.models import given as models
from diffcls.support.errors import ModelError


@cache
def loaded() -> Any:
    return models.load("scenes", "cpu", None, None).pipeline.tokenizer  # type: ignore[attr-defined]


@pytest.fixture
def tokenizer() -> Any:
    return loaded()


def test_places_of_words_are_those_of_the_tokenizer(tokenizer: Any) -> None:
    prompt = "a small red triangle above a xylophone"
    words, ids = Words.of(tokenizer, prompt), tokenizer(prompt).input_ids
    for word, places in zip(words.words, words.tokens, strict=True):
        assert tokenizer.decode([ids[i] for i in places]).strip() == word
    assert ids[words.end] == tokenizer.eos_token_id and words.length == tokenizer.model_max_length
    assert len(words.tokens[-1]) > 1  # no word of the vocabulary


sentences = st.lists(st.sampled_from("a red blue circle xylophone and".split()), max_size=4)


@given(sentences, sentences)
def test_attention_of_every_token_is_carried_once_or_not_at_all(a: list[str], b: list[str]) -> None:
    source, target = (Words.of(loaded(), " ".join(words)) for words in (a, b))
    found = align(source, target)
    # attention is neither made nor lost, but for words that are left out
    rows, columns = found.carry.sum(dim=1), found.carry.sum(dim=0)
    is_lost = rows == 0
    assert torch.allclose(rows[~is_lost], torch.ones(()))
    of_words = {token for tokens in source.tokens for token in tokens}
    assert set(torch.nonzero(is_lost).flatten().tolist()) <= of_words
    assert (columns[found.is_new] == 0).all() and (columns[~found.is_new] > 0).all()
    if a == b:
        assert torch.equal(found.carry, torch.eye(source.length))
        assert not found.is_new.any()


def test_a_word_that_replaces_another_shares_its_attention(tokenizer: Any) -> None:
    source, target = Words.of(tokenizer, "a red circle"), Words.of(tokenizer, "a xylophone circle")
    found, red, new = align(source, target), source.tokens[1], target.tokens[1]
    assert len(red) == 1 and len(new) > 1
    assert torch.allclose(found.carry[red[0], list(new)], torch.full((len(new),), 1 / len(new)))
    (circle,), (moved,) = source.tokens[2], target.tokens[2]
    assert found.carry[circle, moved] == 1 and moved > circle
    assert found.carry[source.end, target.end] == 1
    assert not found.is_new.any()


def test_each_of_several_replaced_words_hands_its_attention_to_one(tokenizer: Any) -> None:
    source = Words.of(tokenizer, "a large red square")
    target = Words.of(tokenizer, "A large blue circle")  # the tokenizer ignores case
    expected = torch.eye(source.length)
    assert source.length == target.length and source.end == target.end
    found = align(source, target)
    assert torch.equal(found.carry, expected) and not found.is_new.any()


def test_an_added_word_keeps_its_own_attention(tokenizer: Any) -> None:
    source, target = Words.of(tokenizer, "a circle"), Words.of(tokenizer, "a red circle")
    found = align(source, target)
    assert torch.nonzero(found.is_new).flatten().tolist() == list(target.tokens[1])
    assert (found.carry.sum(dim=1) > 0).all()  # nothing of the source is lost


def test_words_are_found_in_any_case_and_with_punctuation(tokenizer: Any) -> None:
    words = Words.of(tokenizer, "a Red circle and a red square")
    assert tokens_of(words, "red") == [*words.tokens[1], *words.tokens[5]]
    assert tokens_of(words, "green") == []


def test_prompts_that_are_too_long_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ModelError, match=r"too long.*22 tokens or fewer"):
        Words.of(tokenizer, "red " * 40)


def test_a_learned_word_has_the_tokens_of_all_its_vectors(tokenizer: Any) -> None:
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<mine>", "<mine>_1", "<mine>_2"])
    words = Words.of(own, "a <mine> circle")
    ids = own.convert_tokens_to_ids(["<mine>", "<mine>_1", "<mine>_2"])
    read = own("a <mine> <mine>_1 <mine>_2 circle").input_ids
    assert [read[i] for i in words.tokens[1]] == ids and words.words[1] == "<mine>"
    assert read[words.end] == own.eos_token_id
