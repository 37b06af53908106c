"""Scene grammar: sentences and scenes are equivalent; training leaves out held-out combinations."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from helpers.scenes import kinds_of, scenes_of
from hypothesis import given
from hypothesis import strategies as st

from diffcls.data import catalog
from diffcls.data.scenes.grammar import (
    COLOURS,
    HELD_OUT,
    KINDS,
    RELATIONS,
    SEEN,
    SHAPES,
    SIZES,
    Group,
    Kind,
    Scene,
    parse,
)
from diffcls.support.errors import DataError


def test_20_of_96_combinations_are_held_out() -> None:
    assert len(set(KINDS)) == len(SIZES) * len(COLOURS) * len(SHAPES) == 96
    assert len(HELD_OUT) == 20
    assert sorted(SEEN + HELD_OUT) == sorted(KINDS)
    assert not set(SEEN) & set(HELD_OUT)


@pytest.mark.parametrize("parts", list(combinations(("size", "colour", "shape"), 2)))
def test_every_pair_of_attributes_occurs_in_training(parts: tuple[str, str]) -> None:
    def pairs(kinds: tuple[Kind, ...]) -> set[tuple[str, ...]]:
        return {tuple(vars(kind)[part] for part in parts) for kind in kinds}

    assert pairs(SEEN) == pairs(KINDS)


def test_parsing_inverts_the_sentence_of_every_group() -> None:
    scenes = [Scene(Group(kind, n)) for kind, n in product(KINDS, (1, 2, 3))]
    assert [parse(str(scene)) for scene in scenes] == scenes
    assert str(scenes[0]) == "a small red circle"
    assert str(Scene(Group(Kind("large", "pink", "cross"), 2))) == "two large pink crosses"


GROUPS = st.builds(Group, st.sampled_from(KINDS), st.integers(1, 3))


@given(st.builds(Scene, GROUPS, st.sampled_from(RELATIONS), GROUPS))
def test_parsing_inverts_the_sentence_of_every_relation(scene: Scene) -> None:
    assert parse(str(scene)) == scene
    assert str(scene).count(scene.relation) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "circle",
        "red circle",
        "small red circle",
        "one small red circle",
        "four small red circles",
        "A small red circle",
        "a tiny red circle",
        "a small crimson circle",
        "a small red disc",
        "a red small circle",
        "a small red circles",
        "two small red circle",
        "two small red crosss",
        "a small red circle ",
        "a small red circle\n",
        "a  small red circle",
        "a picture of a small red circle",
        "a small red circle above",
        "a small red circle above ",
        "above a small red circle",
        "a small red circle left of a small blue square",
        "a small red circle a small blue square",
        "a small red circle above a small blue square above a small pink cross",
    ],
)
def test_sentence_that_is_not_canonical_is_an_error(sentence: str) -> None:
    with pytest.raises(
        DataError,
        match=r"not the canonical sentence of a scene: .*sentences such as 'a small red circle'",
    ):
        parse(sentence)


# ---- held-out combinations -----------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_scenes_contain_no_held_out_combination(split: str) -> None:
    assert not kinds_of(scenes_of("scenes", split)) & set(HELD_OUT)


def test_training_scenes_contain_every_seen_combination_alone_and_in_relations() -> None:
    scenes = scenes_of("scenes", "train")
    assert {scene.first.kind for scene in scenes if scene.second is None} == set(SEEN)
    assert kinds_of(tuple(scene for scene in scenes if scene.second is not None)) == set(SEEN)
    assert {scene.relation for scene in scenes} == {"", *RELATIONS}
    assert all(scene.fits for scene in scenes)


@pytest.mark.parametrize("task", ["relations", "counting", "pairs"])
def test_relations_counting_and_pairs_use_seen_combinations_only(task: str) -> None:
    name = f"scenes/{task}"
    for split in catalog.SPECS[name].splits:
        assert kinds_of(scenes_of(name, split)) <= set(SEEN)
