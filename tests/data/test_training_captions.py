"""Training captions: each names its class once and no other; scene captions keep their scene."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import product

import pytest
from helpers.scenes import meaning
from hypothesis import given
from hypothesis import strategies as st

from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.scenes.grammar import COLOURS, KINDS, RELATIONS, SIZES, Group, Kind, Scene, parse
from diffcls.data.scenes.paraphrases import paraphrase
from diffcls.data.training_captions import DIGIT_WORDS, FILLERS, TEMPLATES, caption

CAPTIONS_PER_CLASS = 1500


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", text.lower())


def captions(label: int, seed: int = 0) -> list[str]:
    return [caption("digits", label, seed, item) for item in range(CAPTIONS_PER_CLASS)]


def test_caption_depends_only_on_seed_and_item() -> None:
    first = captions(3)
    assert [caption("digits", 3, 0, i) for i in reversed(range(CAPTIONS_PER_CLASS))] == first[::-1]
    assert captions(3, seed=1) != first
    assert len(set(first)) > CAPTIONS_PER_CLASS // 2


def test_sentence_of_a_caption_does_not_depend_on_the_label() -> None:
    # each item has the same sentence for every class, except for the name
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
            said.remove("one")  # an article, as in "one three in the middle"
        assert [names[word] for word in said] == [label], text
        forms[said[0]] += 1
    # word and numeral are equally likely: five standard deviations
    assert abs(forms[str(label)] - CAPTIONS_PER_CLASS / 2) < 5 * (CAPTIONS_PER_CLASS / 4) ** 0.5


def test_templates_and_fillers_name_no_class() -> None:
    names = {*DIGIT_WORDS, *map(str, range(10))}
    assert not names & set(FILLERS)
    assert len(set(FILLERS)) == len(FILLERS)
    around = {word for template in TEMPLATES for word in words(template.replace("{}", ""))}
    assert names & around <= {"one"}
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_words_of_the_default_prompt_occur_in_training_captions() -> None:
    (template,) = catalog.find("digits").templates
    known = {word for label in range(10) for text in captions(label) for word in words(text)}
    assert {word for name in "0123456789" for word in words(template.format(name))} <= known


# ---- scenes --------------------------------------------------------------------------------------

# meanings in English, independent of the grammar
MEANS: dict[str, str] = {
    "small": "small",
    "little": "small",
    "tiny": "small",
    "medium": "medium",
    "medium-sized": "medium",
    "large": "large",
    "big": "large",
    "circle": "circle",
    "disc": "circle",
    "square": "square",
    "box": "square",
    "triangle": "triangle",
    "cross": "cross",
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
    "beneath": "below",
}
NUMBERS = {"a": 1, "one": 1, "the": 1, "two": 2, "three": 3}
GROUP = re.compile(
    rf"\b({'|'.join(NUMBERS)}) (small|little|tiny|medium|medium-sized|large|big)"
    rf" ({'|'.join(COLOURS)}) (circle|disc|square|box|triangle|cross)(e?s)?\b"
)
SCENE_WORDS = {"two", "three", *COLOURS, *MEANS}

GROUPS = st.builds(Group, st.sampled_from(KINDS), st.integers(1, 3))
SCENES = st.builds(Scene, GROUPS) | st.builds(Scene, GROUPS, st.sampled_from(RELATIONS), GROUPS)
KEYS = st.integers(0, 2**32).map(random.Random)


def interpret(text: str) -> Scene:
    """Scene of a caption, from the meanings of its words in English."""
    matches = list(GROUP.finditer(text))
    assert 1 <= len(matches) <= 2, text
    around = text[: matches[0].start()] + text[matches[-1].end() :]
    assert not SCENE_WORDS & set(words(around)), text
    groups = []
    for match in matches:
        number, size, colour, shape, plural = match.groups()
        assert plural == (None if NUMBERS[number] == 1 else "es" if shape[-1] in "sx" else "s")
        groups.append(Group(Kind(MEANS[size], colour, MEANS[shape]), NUMBERS[number]))
    if len(groups) == 1:
        return Scene(groups[0])
    between = text[matches[0].end() : matches[1].start()].strip()
    side = re.fullmatch(r"(?:(?:to|on) the )?((?:left|right) of)", between)
    return Scene(groups[0], MEANS[side[1] if side else between], groups[1])


@given(SCENES, KEYS)
def test_paraphrase_has_the_meaning_of_its_sentence(scene: Scene, rng: random.Random) -> None:
    assert meaning(interpret(paraphrase(str(scene), rng))) == meaning(scene)


def test_longest_paraphrase_fits_the_text_encoder() -> None:
    # text encoders read 24 tokens, including start and end; a punctuation mark is one token
    longest, rng = "a medium red circle to the left of two medium blue squares", random.Random(0)
    lengths = {len(re.findall(r"\w+|[^\w\s]", paraphrase(longest, rng))) for _ in range(5000)}
    # an image that shows + a medium-sized … + to the left of + two medium-sized … + .
    assert max(lengths) == 4 + 6 + 4 + 6 + 1 <= 22


@pytest.mark.parametrize("relation", RELATIONS)
def test_relation_is_stated_either_way_equally_often(relation: str) -> None:
    scene = parse(f"a small red circle {relation} two small blue squares")
    rng, n = random.Random(0), 1000
    scenes = [interpret(paraphrase(str(scene), rng)) for _ in range(n)]
    assert {meaning(other) for other in scenes} == {meaning(scene)}
    # within five standard deviations of one half
    assert abs(sum(other == scene for other in scenes) - n / 2) < 5 * (n / 4) ** 0.5


def test_scene_caption_depends_only_on_seed_and_item() -> None:
    def scene_captions(seed: int, items: range) -> list[str]:
        name = "a small red circle above a large blue square"
        return [caption("scenes", 0, seed, item, name) for item in items]

    first = scene_captions(0, range(200))
    assert scene_captions(0, range(200)[::-1]) == first[::-1]
    assert scene_captions(1, range(200)) != first
    assert len(set(first)) > 100


def test_training_captions_of_scenes_name_no_held_out_combination() -> None:
    dataset = load_dataset("scenes", "train")
    for i, item in enumerate(dataset.items[:3000]):
        text = caption("scenes", item.label, 0, i, dataset.class_names[item.label])
        assert not any(kind.held_out for kind in interpret(text).kinds), text


def test_every_synonym_of_the_grammar_occurs() -> None:
    words_used: set[str] = set()
    for seed, (size, relation) in enumerate(product(SIZES, RELATIONS * 50)):
        for one, three in (("circle", "squares"), ("triangle", "crosses")):
            sentence = f"a {size} red {one} {relation} three {size} blue {three}"
            words_used |= set(re.findall(r"[\w-]+", paraphrase(sentence, random.Random(seed))))
    words_used |= (
        {"square", "box", "cross"} if {"squares", "boxes", "crosses"} <= words_used else set()
    )
    assert {word for term in (*MEANS, *NUMBERS) for word in term.split()} - words_used == {"two"}


@pytest.mark.parametrize("name", ["a small red circle", "two large pink crosses"])
def test_default_prompt_of_scenes_is_a_training_caption(name: str) -> None:
    captions = {paraphrase(name, random.Random(seed)) for seed in range(3000)}
    for row in catalog.SPECS.values():
        if row.name.startswith("scenes"):
            assert {template.format(name) for template in row.templates} <= captions
