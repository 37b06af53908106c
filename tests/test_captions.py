"""Captions to train on: each says its class once, whatever stands around it, and no other class."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from diffcls.data import specs
from diffcls.data.captions import DIGIT_WORDS, FILLERS, TEMPLATES, caption
from diffcls.errors import UsageError

A_CLASS = 1500


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", text.lower())


def captions(label: int, seed: int = 0) -> list[str]:
    return [caption("digits", label, seed, item) for item in range(A_CLASS)]


def test_caption_is_keyed_by_seed_and_item_alone() -> None:
    first = captions(3)
    assert [caption("digits", 3, 0, i) for i in reversed(range(A_CLASS))] == first[::-1]
    assert captions(3, seed=1) != first
    assert len(set(first)) > A_CLASS // 2


def test_caption_does_not_tell_the_label_by_its_sentence() -> None:
    # the same item is the same sentence for every class, the name apart
    for item in range(200):
        frames = {
            re.sub(rf"\b({DIGIT_WORDS[k]}|{k})\b", "#", caption("digits", k, 0, item), count=1)
            for k in (0, 2, 3, 4, 5, 6, 7, 8, 9)
        }
        assert len(frames) == 1, frames


@pytest.mark.parametrize("label", range(10))
def test_caption_names_its_class_once_and_no_other(label: int) -> None:
    names = {name: k for k, word in enumerate(DIGIT_WORDS) for name in (word, str(k))}
    forms = Counter[str]()
    for text in captions(label):
        said = [word for word in words(text) if word in names]
        if len(said) > 1 and "one" in said:
            said.remove("one")  # "one three in the middle": an article there
        assert [names[word] for word in said] == [label], text
        forms[said[0]] += 1
    # word and numeral are equally likely: five standard deviations
    assert abs(forms[str(label)] - A_CLASS / 2) < 5 * (A_CLASS / 4) ** 0.5


def test_words_around_the_name_carry_no_class() -> None:
    names = {*DIGIT_WORDS, *map(str, range(10))}
    assert not names & set(FILLERS)
    assert len(set(FILLERS)) == len(FILLERS)
    around = {word for template in TEMPLATES for word in words(template.replace("{}", ""))}
    assert names & around <= {"one"}
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_default_prompt_holds_no_word_that_training_never_says() -> None:
    (template,) = specs.find("digits").templates
    known = {word for label in range(10) for text in captions(label) for word in words(text)}
    assert {word for name in "0123456789" for word in words(template.format(name))} <= known


def test_unknown_data_set_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        caption("digit", 0, 0, 0)
